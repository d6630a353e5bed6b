// One box that finds experts by number and tokens by their text.
const MOST_FOUND = 12; // of each kind

// The experts that "3.12", "L3 E12", "layer 3" or "expert 12" name.
const expertsNamed = (data, text) => {
  const layer = "l(?:ayer)?\\s*";
  const expert = "e(?:xpert)?\\s*";
  const one = text.match(new RegExp(`^(?:${layer})?(\\d+)[\\s.,:]+(?:${expert})?(\\d+)$`, "i")) ?? text.match(new RegExp(`^${layer}(\\d+)${expert}(\\d+)$`, "i"));
  if (one) return [data.cell(Number(one[1]), Number(one[2]))].filter((i) => i !== null);
  const row = text.match(new RegExp(`^${layer}(\\d+)$`, "i"));
  if (row) return data.ofLayer.get(Number(row[1])) ?? [];
  const column = text.match(new RegExp(`^${expert}(\\d+)$`, "i"));
  return column ? data.layers.map((l) => data.cell(l, Number(column[1]))).filter((i) => i !== null) : [];
};

const findIn = (data, typed) => {
  const text = typed.trim();
  if (!text) return { hits: [], total: 0 };
  const cells = expertsNamed(data, text);
  const harm = (i) => estimate(data.cells.delta_nll[i], data.cells.delta_nll_low[i], data.cells.delta_nll_high[i]);
  const hits = cells.slice(0, MOST_FOUND).map((i) => ({ href: data.href(i), label: [make("b", {}, data.name(i)), data.cells.n[i] ? ` harm ${harm(i)}` : " never chosen"] }));
  const most = hits.length + MOST_FOUND;
  let total = cells.length;
  const wanted = typed.toLowerCase().replace(/\s+$/, "");
  for (const doc of data.documents) {
    const starts = [];
    let whole = "";
    for (const part of doc.text) { starts.push(whole.length); whole += part.toLowerCase(); }
    let token = 0;
    for (let at = whole.indexOf(wanted); at >= 0; at = whole.indexOf(wanted, at + 1)) {
      total += 1;
      if (hits.length >= most) continue;
      // where the phrase begins, or its first sign that is no space
      const first = at + (wanted.length - wanted.trimStart().length);
      while (token + 1 < starts.length && starts[token + 1] <= first) token += 1;
      hits.push({ href: data.tokenHref(doc.document, token), label: [
        make("span", { class: "muted" }, `${data.token(doc.document, token).join(".")} ${data.domains[doc.domain]} `), doc.text.slice(Math.max(0, token - 6), token).map(visible).join(""),
        make("mark", {}, visible(doc.text[token])), doc.text.slice(token + 1, token + 6).map(visible).join("")] });
    }
  }
  return { hits, total };
};

const finder = (data) => {
  const list = make("ul", { class: "xp-found", "aria-label": "Found" });
  const draw = () => {
    const { hits, total } = findIn(data, input.value);
    fill(list, ...hits.map(({ href, label }) => make("li", {}, make("a", { href, onclick: () => fill(list) }, label))));
    if (input.value.trim()) {
      say(total ? `${count(total)} found${total > hits.length ? `, ${hits.length} shown` : ""}` : "Nothing found");
      if (total > hits.length) list.append(make("li", { class: "muted" }, `${count(total - hits.length)} more: type more to narrow it down`));
      if (!total) list.append(make("li", { class: "muted" }, "Nothing found in the sampled documents. Experts are found as 3.12, L3 E12, layer 3 or expert 12."));
    }
  };
  const input = make("input", { type: "search", placeholder: "3.12, L3 E12, layer 3, expert 12, or words", autocomplete: "off", spellcheck: "false", oninput: draw,
    onkeydown: (event) => {
      const links = [...list.querySelectorAll("a")];
      if (event.key === "Enter" && links.length) { links[0].click(); fill(list); }
      if (event.key === "ArrowDown" && links.length) { event.preventDefault(); links[0].focus(); }
      if (event.key === "Escape" && input.value) { event.stopPropagation(); input.value = ""; fill(list); }
    } });
  list.addEventListener("keydown", (event) => {
    const links = [...list.querySelectorAll("a")];
    const at = links.indexOf(event.target);
    if (event.key === "ArrowDown") { event.preventDefault(); links[Math.min(at + 1, links.length - 1)].focus(); }
    if (event.key === "ArrowUp") { event.preventDefault(); (at > 0 ? links[at - 1] : input).focus(); }
    if (event.key === "Escape") { event.stopPropagation(); fill(list); input.focus(); }
  });
  return make("div", { class: "xp-find", role: "search" }, underName("Find an expert or a token", input), list);
};
