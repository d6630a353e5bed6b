// The layer x expert map: one tab stop, arrow keys, a tip on each cell, marks for what the limits settle.
const LEAST_CELL = 17; // pixels; below this a layer breaks into lines of its own

const tipOf = (data, i) => {
  const c = data.cells;
  if (!c.n[i]) return [`Layer ${c.layer[i]}, expert ${c.expert[i]}`, "never chosen in these documents"];
  return [
    `Layer ${c.layer[i]}, expert ${c.expert[i]}`,
    `harm ${estimate(c.delta_nll[i], c.delta_nll_low[i], c.delta_nll_high[i])} nats`,
    `disturbance ${estimate(c.kl[i], c.kl_low[i], c.kl_high[i], false)} nats`,
    `flips ${percent(c.flip[i])} \u00b7 use ${percent(c.use[i])} \u00b7 n = ${count(c.n[i])}`,
  ];
};

// Whether the limits of the shown outcome leave out 0; null where it has none, or cannot be below 0.
const settled = (data, key, i) => {
  const low = data.cells[`${key}_low`];
  if (!low || !data.shown(key)[3]) return null;
  const grade = gradeOf(low[i], data.cells[`${key}_high`][i]);
  return grade === "unknown" ? null : grade !== "open";
};

class ExpertMap {
  constructor(data, act) {
    this.data = data;
    this.act = act;
    this.most = Math.max(...data.layers.map((l) => data.ofLayer.get(l).length));
    this.tip = make("div", { class: "xp-tip", "aria-hidden": "true", hidden: true });
    this.legend = make("div");
    this.note = make("p", { class: "xp-hint" });
    this.picker = make("span");
    this.grid = this.drawGrid();
    this.box = make("div", { class: data.layers.length > 14 ? "xp-map xp-deep" : "xp-map" },
      make("div", { class: "xp-controls" }, this.picker),
      make("div", { class: "xp-field" }, this.grid, this.tip), this.legend, this.note);
    new ResizeObserver(() => this.fit()).observe(this.box);
  }

  drawGrid() {
    const { data } = this;
    this.nodes = new Array(data.size);
    const rows = data.layers.map((layer) => make("div", { role: "row", class: "xp-row" },
      make("span", { role: "rowheader", class: "xp-layer" }, make("span", {}, "layer "), String(layer)),
      data.ofLayer.get(layer).map((i) => {
        this.nodes[i] = make("span", { role: "gridcell", class: "xp-cell", "data-cell": i, tabindex: "-1" });
        return this.nodes[i];
      })));
    this.ticks = make("div", { class: "xp-row xp-ticks", "aria-hidden": "true" }, make("span", { class: "xp-layer" }, "expert"),
      [...Array(this.most).keys()].map((e) => make("span", {}, this.most <= 8 || e % 4 === 0 ? String(e) : "")));
    const grid = make("div", { role: "grid", class: "xp-grid", "aria-label": "Experts: one row a layer, one cell an expert" }, rows);
    roving(grid, ".xp-cell", stepByPlace);
    const cellOf = (event) => event.target.closest?.(".xp-cell");
    grid.addEventListener("click", (event) => {
      const node = cellOf(event);
      if (node) this.act(Number(node.dataset.cell), node, false);
    });
    grid.addEventListener("keydown", (event) => {
      const node = cellOf(event);
      if (!node || (event.key !== "Enter" && event.key !== " ")) return;
      event.preventDefault();
      this.act(Number(node.dataset.cell), node, true);
    });
    for (const kind of ["pointerover", "focusin"]) grid.addEventListener(kind, (e) => this.point(cellOf(e)));
    for (const kind of ["pointerleave", "focusout"]) grid.addEventListener(kind, () => this.point(null));
    return make("div", {}, this.ticks, grid);
  }

  point(node) {
    this.tip.hidden = !node;
    if (!node) return;
    const [head, ...rest] = tipOf(this.data, Number(node.dataset.cell));
    fill(this.tip, make("b", {}, head), ...rest.map((line) => make("span", {}, line)));
    const field = this.tip.parentElement.getBoundingClientRect();
    const at = node.getBoundingClientRect();
    const left = Math.min(at.left - field.left, field.width - this.tip.offsetWidth);
    this.tip.style.left = `${Math.max(0, left)}px`;
    this.tip.style.top = `${at.bottom - field.top + 6}px`;
  }

  // As many experts in a line as keep a cell large enough to hit; a whole layer where there is room.
  fit() {
    const wide = this.box.clientWidth - 58;
    if (wide <= 0) return;
    const step = 2 ** Math.max(2, Math.floor(Math.log2(wide / LEAST_CELL)));
    const inLine = wide / this.most >= 13 ? this.most : Math.min(this.most, step);
    this.box.style.setProperty("--in-line", inLine);
    this.box.classList.toggle("xp-broken", inLine < this.most);
    for (const row of this.grid.querySelectorAll(".xp-row")) {
      row.style.setProperty("--lines", Math.ceil((row.children.length - 1) / inLine));
    }
  }

  show(key, change) {
    const { data } = this;
    const [name, values, unit, signed] = data.shown(key);
    const scale = scaleOf(values, signed);
    const write = (x) => (key === "use" || unit === "share" ? percent(x) : significant(x, 2, signed));
    let marked = 0;
    let tested = 0;
    for (let i = 0; i < data.size; i += 1) {
      const node = this.nodes[i];
      const mark = settled(data, key, i);
      tested += mark !== null;
      marked += mark === true;
      node.className = `xp-cell ${scale.css(values[i])}${mark ? " xp-settled" : ""}`;
      const low = data.cells[`${key}_low`]?.[i];
      const range = has(low) ? `, limits ${write(low)} to ${write(data.cells[`${key}_high`][i])}` : "";
      node.setAttribute("aria-label", data.cells.n[i] || has(values[i])
        ? `${data.name(i)}: ${name} ${write(values[i])}${range}, chosen ${count(data.cells.n[i])} times`
        : `${data.name(i)}: never chosen`);
    }
    const beyond = values.filter((v) => has(v) && Math.abs(v) >= scale.edges.at(-1)).length;
    const worst = values.indexOf(values.find((v) => has(v) && Math.abs(v) === scale.largest));
    const unitText = unit && unit !== "share" ? ` ${unit}` : "";
    fill(this.legend, legendOf(scale, write, [
      worst >= 0 && scale.edges.length ? `strongest colour: ${plural(beyond, "cell")}, up to ${write(values[worst])}${unitText} (${data.short(worst)})` : "all the same",
      values.some((v) => !has(v)) ? sample("none", "never chosen, or no value") : null,
      tested ? sample("xp-settled d0", "limits leave out 0") : null,
    ].filter(Boolean)));
    this.note.textContent = tested
      ? `${count(marked)} of ${count(tested)} cells have limits that leave out 0; by chance alone about ${byChance(tested)} would, since each cell has 95% limits of its own.`
      : `Colours say how large, not how sure: ${name} is shown without limits.`;
    fill(this.picker, choice("Colour the map by", [
      ["What an edit does", data.outcomeOptions()],
      ["What the router does", [["use", "use"], ["weight", "mean gate weight"]]],
      ["Routing metrics", data.metricOptions()],
    ], key, change));
    if (!this.grid.querySelector('.xp-cell[tabindex="0"]')) this.nodes[worst >= 0 ? worst : 0].tabIndex = 0;
  }

  // What is open stands out, and what belongs to it: its neighbours, or a token's whole route.
  mark(open, kin) {
    for (const node of this.grid.querySelectorAll(".xp-open, .xp-kin, [aria-selected]")) {
      node.classList.remove("xp-open", "xp-kin");
      node.removeAttribute("aria-selected");
    }
    for (const i of kin) this.nodes[i].classList.add("xp-kin");
    if (open === null) return;
    for (const node of this.grid.querySelectorAll('.xp-cell[tabindex="0"]')) node.tabIndex = -1;
    this.nodes[open].classList.add("xp-open");
    this.nodes[open].setAttribute("aria-selected", "true");
    this.nodes[open].tabIndex = 0;
  }
}
