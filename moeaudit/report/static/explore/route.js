// A token's route: every layer, every expert it chose, with two bars: how much weight it has, and what losing it does.
const routeOf = (data, number, place, { one, many }) => {
  const found = data.byNumber.get(number);
  const at = (p) => (p < found.text.length ? found.text[p] : found.next);
  const route = data.route(number, place);
  const clean = data.strings[found.top[place]];
  const follows = at(place + 1);
  const context = make("p", { class: "xp-passage" },
    place > 24 ? "\u2026" : "",
    found.text.slice(Math.max(0, place - 24), place).map(visible).join(""),
    make("mark", {}, visible(found.text[place])),
    make("span", { class: "muted" }, found.text.slice(place + 1, place + 9).map(visible).join(""), "\u2026"));
  const steps = make("p", { class: "xp-hint" },
    place > 0 && make("a", { href: data.tokenHref(number, place - 1) }, "\u2190 token before"), " ",
    place + 1 < found.text.length && make("a", { href: data.tokenHref(number, place + 1) }, "token after \u2192"));
  return {
    title: `Token ${quoted(found.text[place])}`,
    where: `document ${number} (${data.domains[found.domain]}), position ${data.token(number, place)[1]}`,
    body: [
      context,
      make("dl", { class: "xp-facts" }, [
        clean === undefined || clean === null
          ? ["its likeliest next token", `probability ${percent(found.p_top[place], 0)}`, "which one is not recorded in this run"]
          : ["predicts next", quoted(clean), `with probability ${percent(found.p_top[place], 0)}`],
        ["what follows", follows === null || follows === undefined ? "not known" : quoted(follows), found.correct[place] ? "the prediction is right" : "the prediction is wrong"],
        ["loss of the intact model", fixed(found.nll[place], 2), "nats on this prediction"],
        ...worst(route, many),
      ].map(([name, value, note]) => make("div", {}, make("dt", {}, name), make("dd", {}, value, make("small", {}, note))))),
      steps,
      lanes(route, clean, one),
      data.top_why && make("p", { class: "xp-hint" }, `What is predicted with and without an expert is not shown. ${data.top_why}`),
    ],
  };
};

const worst = (route, many) => {
  const rows = route.flatMap(([layer, experts]) => experts.map((e) => ({ layer, ...e }))).filter((e) => has(e.harm));
  if (!rows.length) return [];
  const most = rows.reduce((a, b) => (Math.abs(b.harm) > Math.abs(a.harm) ? b : a));
  const flips = rows.filter((e) => e.flip).length;
  return [
    ["largest effect", significant(most.harm, 2, true), `nats, layer ${most.layer} expert ${most.expert}`],
    ["flips", count(flips), `of ${count(rows.length)} single ${many}`],
  ];
};

const lanes = (route, clean, one) => {
  const all = route.flatMap(([, experts]) => experts);
  const sizes = ascending(all.map((e) => (has(e.harm) ? Math.abs(e.harm) : null)));
  const top = Math.max(quantile(sizes, 0.95) || 0, 1e-12);
  const heaviest = Math.max(...all.map((e) => e.weight), 1e-12);
  const cut = sizes.filter((s) => s > top).length;
  const chip = (layer, e) => {
    const share = Math.min(1, Math.abs(e.harm ?? 0) / top);
    const becomes = e.flip && e.top !== null ? `, the prediction becomes ${quoted(e.top)}` : e.flip ? ", the prediction flips" : "";
    return make("a", {
      href: `#expert=${layer}.${e.expert}`, class: "xp-chip", title: `weight ${significant(e.weight, 3)}, harm ${significant(e.harm, 3, true)} nats, KL ${significant(e.kl, 2)}${becomes}`,
      "aria-label": `layer ${layer} expert ${e.expert}: weight ${significant(e.weight, 2)}, harm ${significant(e.harm, 2, true)} nats, KL ${significant(e.kl, 2)}${becomes}`,
    },
    make("span", { class: "xp-who" }, make("b", {}, String(e.expert)), make("span", {}, significant(e.harm, 2, true))),
    make("span", { class: "xp-bar xp-weight", vars: { "--v": e.weight / heaviest } }),
    make("span", { class: `xp-bar xp-harm ${e.harm < 0 ? "xp-less" : ""}`, vars: { "--v": share } }),
    e.flip ? make("span", { class: "xp-flip" }, "\u2192 ", e.top === null ? "flips" : visible(e.top)) : null);
  };
  const rows = route.map(([layer, experts], i) => make("li", { class: "xp-lane", vars: { "--i": i } },
    make("span", { class: "xp-layer" }, `layer ${layer}`), make("span", { class: "xp-chips" }, experts.map((e) => chip(layer, e)))));
  const list = make("ol", { class: "xp-lanes", "aria-label": "Route through the layers; arrow keys move between experts" }, rows);
  roving(list, ".xp-chip", stepByPlace);
  return make("div", { class: "xp-block" }, make("h4", {}, "Its route through the layers"), list,
    make("p", { class: "xp-hint" },
      make("i", { class: "xp-sample xp-w" }), ` gate weight, up to ${significant(heaviest, 2)}; `,
      make("i", { class: "xp-sample xp-h" }), ` harm or `, make("i", { class: "xp-sample xp-l" }),
      ` help of one ${one}, in nats, from the middle, up to ${significant(top, 2)}${cut ? ` (${plural(cut, "bar")} cut there: the number says how far it goes)` : ""}. \u2192 the top prediction without that expert, where it flips${clean ? ` from ${quoted(clean)}` : ""}. Every effect is of one ${one} alone; effects of several do not add up.`));
};
