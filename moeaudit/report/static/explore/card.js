// An expert's card: what removing it does and how sure that is, where, at which tokens, and beside whom.
const cardOf = (data, i, { one }) => {
  const c = data.cells;
  const layer = c.layer[i];
  const inLayer = data.ofLayer.get(layer).length;
  const title = `Layer ${layer}, expert ${c.expert[i]}`;
  if (!c.n[i]) {
    return { title, body: [make("p", {}, "No token of these documents chose this expert, so nothing was measured about it. It is not shown to be useless: other text may choose it."), ranksOf(data, i)] };
  }
  const harm = estimate(c.delta_nll[i], c.delta_nll_low[i], c.delta_nll_high[i]);
  const grade = gradeOf(c.delta_nll_low[i], c.delta_nll_high[i]);
  const rank = data.harm_rank[i];
  const fact = (name, value, note) => make("div", {}, make("dt", {}, name), make("dd", {}, value, note ? make("small", {}, note) : null));
  const split = (text) => [text.split(" [")[0], text.includes(" [") ? `nats, limits [${text.split(" [")[1]}` : "nats, no limits"];
  return {
    title,
    body: [
      make("p", { class: "xp-lead" },
        make("span", { class: `xp-grade xp-is-${grade}` }, GRADES[grade]), " ",
        gradeWords(c.delta_nll_low[i], c.delta_nll_high[i], one),
        apartOf(data, i), grade === "unknown" ? null : ` ${chanceWords(data.tested())}`),
      make("dl", { class: "xp-facts" },
        fact("use", percent(c.use[i]), `of layer ${layer}\u2019s choices, ${count(c.n[i])} times`),
        fact("mean gate weight", significant(c.weight[i], 3)),
        fact("harm", ...split(harm)),
        fact("disturbance, KL", ...split(estimate(c.kl[i], c.kl_low[i], c.kl_high[i], false))),
        fact("flips", percent(c.flip[i]), "of top predictions"),
        fact("rank by harm", has(rank) ? ordinal(rank) : DASH, `of ${inLayer} in its layer; 1st costs most`)),
      make("div", { class: "xp-columns" }, make("div", {}, domainsOf(data, i), identityOf(data, i)), make("div", {}, ranksOf(data, i))),
      make("div", { class: "xp-columns" }, besideOf(data, i), nextOf(data, i)),
      contextsOf(data, i),
      make("p", { class: "xp-hint" }, make("a", { href: `#tokens&color=delta_nll%40${layer}.${c.expert[i]}` },
        `Colour the sampled text by the harm of this expert`), "."),
    ],
  };
};

// Where the limits of one domain lie wholly above those of another, the pair furthest apart is named. It was picked: no test.
const apartOf = (data, i) => {
  const rows = (data.perDomain.get(i) ?? []).filter((r) => has(r.low) && has(r.high));
  if (rows.length < 2) return null;
  const above = rows.reduce((a, b) => (b.low > a.low ? b : a));
  const below = rows.reduce((a, b) => (b.high < a.high ? b : a));
  if (above.low <= below.high) return null;
  return [" ", make("b", {}, "Domains may differ"), `: of ${rows.length}, the two furthest apart are ${data.domains[above.domain]} ${limits(above.low, above.high)} and ${data.domains[below.domain]} ${limits(below.low, below.high)}, whose limits do not overlap. They were picked as the furthest apart, which chance alone does at times.`];
};

const block = (title, ...inside) => make("div", { class: "xp-block" }, make("h4", {}, title), inside);

// Mean harm with limits, all domains on one axis.
const domainsOf = (data, i) => {
  const c = data.cells;
  const rows = [
    { name: "all", n: c.n[i], harm: c.delta_nll[i], low: c.delta_nll_low[i], high: c.delta_nll_high[i] },
    ...(data.perDomain.get(i) ?? []).map((row) => ({ ...row, name: data.domains[row.domain] })),
  ].filter((row) => row.n);
  const ends = rows.flatMap((r) => [r.harm, r.low, r.high]).filter(has).map(Math.abs);
  const spans = rows.flatMap((r) => [r.low, r.high]).filter(has).map(Math.abs);
  // One domain with few tokens must not flatten the rest: the axis ends at twice the median of the ends, or at the last.
  const top = Math.min(Math.max(...ends, 1e-12), Math.max(4 * (quantile(ascending(spans.length ? spans : ends), 0.5) || 0), Math.abs(c.delta_nll[i] || 0) * 1.2) || Infinity);
  const at = (x) => `${50 + 50 * Math.max(-1, Math.min(1, x / top))}%`;
  return block("Harm by domain",
    make("table", { class: "xp-table xp-lines" },
      make("thead", {}, make("tr", {}, ["domain", "n", "harm (nats) with limits"].map((t, k) => make("th", { scope: "col", class: k === 1 ? "n" : null }, t)), make("td", {}))),
      make("tbody", {}, rows.map((r) => make("tr", {},
        make("th", { scope: "row" }, r.name), make("td", { class: "n", "data-label": "n" }, count(r.n)),
        make("td", {}, estimate(r.harm, r.low, r.high), has(r.low) ? null : make("small", { class: "muted" }, " no limits")),
        make("td", { class: "xp-track", "aria-hidden": "true" },
          make("span", { class: "xp-zero" }),
          has(r.low) && make("span", { class: `xp-range xp-is-${gradeOf(r.low, r.high)}`, vars: { "--a": at(r.low), "--b": at(r.high) } }),
          has(r.harm) && make("span", { class: `xp-point xp-is-${gradeOf(r.low, r.high)}${Math.abs(r.harm) > top ? " xp-off" : ""}`, vars: { "--a": at(r.harm) } })))))),
    make("p", { class: "xp-hint" }, `Axis: ${significant(-top, 2)} to ${significant(top, 2, true)} nats, 0 in the middle${Math.max(...ends) > top ? "; limits beyond it are cut at its ends" : ""}. Each row has 95% limits of its own: by chance alone about 5% of such limits would leave out 0.`));
};

// Where each metric places the expert in its layer, the harm first.
const ranksOf = (data, i) => {
  const inLayer = data.ofLayer.get(data.cells.layer[i]).length;
  const line = (name, rank, value) => make("tr", {},
    make("th", { scope: "row" }, name), make("td", { class: "n" }, significant(value, 3)),
    make("td", { class: "n" }, has(rank) ? `${rank} of ${inLayer}` : DASH),
    make("td", { class: "xp-track", "aria-hidden": "true" }, has(rank) && make("span", { class: "xp-point", vars: { "--a": `${inLayer > 1 ? (100 * (inLayer - rank)) / (inLayer - 1) : 50}%` } })));
  const pruned = Object.entries(data.pruning ?? {}).filter(([, values]) => Array.isArray(values));
  return block("Its rank in the layer",
    make("table", { class: "xp-table xp-lines" },
      make("thead", {}, make("tr", {}, ["by", "value", "rank"].map((t, k) => make("th", { scope: "col", class: k ? "n" : null }, t)), make("td", {}))),
      make("tbody", {}, line("harm (nats)", data.harm_rank[i], data.cells.delta_nll[i]),
        Object.entries(data.metrics).map(([key, m]) => line(m.name, data.metric_ranks[key]?.[i], data.metric_values[key]?.[i])))),
    make("p", { class: "xp-hint" }, "1 is the largest value of the layer, at the right of the line. A metric that knew the harm would stand where harm stands."),
    pruned.map(([name, values]) => make("p", { class: "xp-hint" }, has(values[i]) ? `Pruned by ${name}, it goes once ${percent(values[i], 0)} of the experts are kept.` : `Pruned by ${name}, it stayed at every share tried.`)));
};

const companion = (data, i, [expert, share, lift], tail) => make("li", {},
  make("a", { href: `#expert=${data.cells.layer[i]}.${expert}` }, `expert ${expert}`), ` ${tail} ${percent(share, 0)} of its tokens`,
  has(lift) ? make("span", { class: "muted" }, `, ${fixed(lift, 1)} times what use alone would give`) : null);

const besideOf = (data, i) => {
  const beside = data.beside?.[i] ?? [];
  return block("Who stands beside it", beside.length
    ? make("ul", { class: "xp-list" }, beside.map((one) => companion(data, i, one, "at")))
    : make("p", { class: "muted" }, data.beside_why ?? "No expert was chosen beside it."));
};

// The router's next choice, were it not there.
const nextOf = (data, i) => {
  const next = data.replaced?.[i] ?? [];
  return block("Who is next in line", next.length
    ? make("ul", { class: "xp-list" }, next.map(([expert, share]) => companion(data, i, [expert, share], "for")))
    : make("p", { class: "muted" }, data.replaced_why ? `Not known. ${data.replaced_why}` : "Nobody, for none of its tokens."));
};

const identityOf = (data, i) => {
  const whys = data.identity.why?.replace(/^null where/, "not known where");
  const line = (name, x) => make("li", {}, make("b", {}, has(x) ? percent(x, 0) : "not known"), ` of ${name}`);
  const [use, harm] = [data.identity.use?.[i], data.identity.harm?.[i]];
  return block("What the token\u2019s identity alone explains",
    make("ul", { class: "xp-list" }, line("when it is chosen", use), line("its harm, among the tokens that choose it", harm)),
    make("p", { class: "xp-hint" }, "Near 100%: it answers to particular words, whatever stands before them. Near 0%: context decides. Estimates are clipped to 0 to 100%.",
      has(use) && has(harm) ? null : ` Not known (${whys ?? "too few tokens stand in several documents"}).`));
};

const contextsOf = (data, i) => {
  const { strong = [], weak = [] } = data.contexts[i] ?? {};
  const told = [...strong, ...weak].some((r) => r.top !== null && r.top !== undefined);
  const row = (r) => {
    const known = data.place([r.d, r.p]) !== null;
    const token = make("mark", { title: known ? null : "not in the sample: its route is not on this page" }, visible(r.token));
    return make("tr", {},
      make("td", { class: "xp-context" }, make("span", {}, "\u2026", visible(r.before)),
        known ? make("a", { href: `#token=${r.d}.${r.p}`, title: "its route through all layers" }, token) : token,
        r.next ? make("span", { class: "muted" }, ` \u2192 ${quoted(r.next)}`) : null),
      ["weight", significant(r.weight, 2), "harm", significant(r.delta_nll, 2, true), "KL", significant(r.kl, 2)].flatMap((v, k, all) => (k % 2 ? [make("td", { class: "n", "data-label": all[k - 1] }, v)] : [])),
      told && make("td", { "data-label": "predicts" }, r.top === null ? DASH : r.edited === null || r.top === r.edited ? make("span", { class: "muted" }, quoted(r.top), r.edited === null ? "" : ", unmoved") : [quoted(r.top), " becomes ", make("b", {}, quoted(r.edited))]));
  };
  const part = (name, rows) => rows.length && make("tbody", {}, make("tr", { class: "xp-part" }, make("th", { scope: "rowgroup", colspan: told ? 5 : 4 }, name)), rows.map(row));
  return block("Where it matters, and where it does not",
    make("div", { class: "xp-wide", role: "region", tabindex: "0", "aria-label": "Tokens in context" }, make("table", { class: "xp-table" },
      make("thead", {}, make("tr", {}, ["token in context, and what follows", "weight", "harm", "KL", told && "top prediction, and without the expert"].filter(Boolean).map((t, k) => make("th", { scope: "col", class: k > 0 && k < 4 ? "n" : null }, t)))),
      part("largest effects", strong), part("smallest effects", weak))),
    make("p", { class: "xp-hint" }, "The largest of many effects are partly luck: they show what the expert can do, not what it does on average. An underlined token is in the sample and links to its route; the others are not in it."));
};
