// The sampled text, coloured by what the reader chooses, one document at a time under an overview of all.
class Reader {
  constructor(data, { open, colour }) {
    Object.assign(this, { data, open, colour });
    this.domain = "";
    this.at = data.documents[0]?.document ?? null;
    this.spec = { key: "delta_nll", layer: null, expert: null };
    this.overview = make("div", { class: "xp-overview" });
    this.text = make("p", { class: "tokens xp-text" });
    this.head = make("h3", { class: "xp-doc" });
    this.controls = make("div", { class: "xp-controls" });
    this.legend = make("div");
    this.box = make("div", { class: "xp-read" },
      make("p", { class: "xp-hint" }, `The sample: ${data.sample}`), this.controls, this.legend, this.overview, this.head, this.text,
      make("p", { class: "xp-hint" }, "Keys: ", ["n", "p"].map((k) => [make("kbd", {}, k), k === "n" ? " next strongest, " : " the one before, "]),
        "arrow keys move, ", make("kbd", {}, "Enter"), " opens the route, ", make("kbd", {}, "Esc"), " closes it. Or: ",
        button("Next strongest", () => this.strongest(1)), " ", button("Previous", () => this.strongest(-1))));
    const token = (event) => event.target.closest?.(".tok");
    this.text.addEventListener("click", (event) => { const t = token(event); if (t) this.open(this.data.token(this.at, Number(t.dataset.at)), t, false); });
    this.text.addEventListener("keydown", (event) => {
      const t = token(event);
      if (!t || (event.key !== "Enter" && event.key !== " ")) return;
      event.preventDefault();
      this.open(this.data.token(this.at, Number(t.dataset.at)), t, true);
    });
  }

  // Whether the colour names a layer or an expert, not a size.
  named() { return this.spec.key === "layer" || this.spec.key === "expert"; }

  // What makes a token strong under the chosen colour.
  sizes(doc) {
    if (this.named()) return doc.text.map((_, p) => this.data.strongest(doc, p)?.[1] ?? null);
    return this.coloured.get(doc.document).map((v) => (has(v) ? Math.abs(v) : null));
  }

  // The value of every token of a document under the chosen colour; null where it has none.
  values(doc) {
    const { key, layer, expert } = this.spec;
    if (this.named()) return doc.text.map((_, p) => {
      const most = this.data.strongest(doc, p);
      return most && (key === "layer" ? this.data.cells.layer[most[0]] : most[0]);
    });
    if (WHOLE_TOKEN.includes(key)) return doc[key];
    const layers = has(layer) ? [layer] : this.data.layers;
    return doc.text.map((_, p) => {
      let sum = 0;
      let n = 0;
      for (const l of layers) {
        const at = doc.layers[l];
        if (!at) continue;
        at.expert[p].forEach((e, r) => {
          if (has(expert) && e !== expert) return;
          const v = key.startsWith("m.") || key === "use" ? this.standing(l, e) : at[key]?.[p][r];
          if (has(v)) { sum += v; n += 1; }
        });
      }
      return n ? sum / n : null;
    });
  }

  // Metrics of different layers have no common scale; where the expert stands in its layer has: 1 is the largest.
  standing(layer, expert) {
    const i = this.data.cell(layer, expert);
    const values = this.spec.key === "use" ? this.data.cells.use : this.data.metric_values[this.spec.key.slice(2)];
    this.places ??= new Map();
    const name = `${this.spec.key}.${layer}`;
    if (!this.places.has(name)) {
      const cells = this.data.ofLayer.get(layer).filter((j) => has(values[j])).sort((a, b) => values[a] - values[b]);
      this.places.set(name, new Map(cells.map((j, k) => [j, cells.length > 1 ? k / (cells.length - 1) : 1])));
    }
    return this.places.get(name).get(i) ?? null;
  }

  documents() {
    const wanted = this.domain === "" ? null : Number(this.domain);
    return this.data.documents.filter((d) => wanted === null || d.domain === wanted);
  }

  said() {
    const { key, layer, expert } = this.spec;
    const what = {
      nll: "loss of the intact model", p_top: "probability of the top prediction",
      layer: "layer of the expert with the strongest effect at the token (harm or help)", expert: "expert with the strongest effect at the token (harm or help)",
    }[key];
    if (what) return what;
    const name = key.startsWith("m.") || key === "use" ? `standing by ${this.data.shown(key)[0]} in the layer, 1 is the largest` : this.data.shown(key)[0];
    const who = has(expert) ? `expert ${expert} of layer ${layer}` : has(layer) ? `its experts in layer ${layer}` : "all its experts";
    return `${name}, mean over ${who}`;
  }

  show(colour, open) {
    const same = writeColour(colour) === writeColour(this.spec) && colour.unknown === this.spec.unknown && this.coloured;
    this.spec = colour;
    if (open && this.data.byNumber.has(open[0])) this.at = open[0];
    if (!this.documents().some((d) => d.document === this.at)) {
      if (open) this.domain = "";
      else this.at = this.documents()[0]?.document ?? null;
    }
    if (!same) {
      this.coloured = new Map(this.data.documents.map((d) => [d.document, this.values(d)]));
      const signed = colour.key === "delta_nll" || Boolean(this.data.outcomes[colour.key]?.signed);
      const all = [...this.coloured.values()].flat();
      this.size = new Map(this.data.documents.map((d) => [d.document, this.sizes(d)]));
      this.scale = colour.key === "layer" ? depthScale(all, this.data.layers)
        : colour.key === "expert" ? namesScale(all, (v) => this.data.name(v)) : scaleOf(all, signed);
      this.order = null;
      this.last = null;
      this.drawControls();
    }
    this.drawOverview();
    this.drawText(open);
  }

  write(v) {
    if (this.named()) return this.spec.key === "layer" ? `layer ${v}` : this.data.name(v);
    return this.spec.key === "flip" || this.spec.key === "p_top" ? percent(v, 0) : significant(v, 2, this.scale.signed);
  }

  drawControls() {
    const { data, spec } = this;
    const layers = [["", "all layers"], ...data.layers.map((l) => [String(l), `layer ${l}`])];
    const experts = has(spec.layer) ? data.ofLayer.get(spec.layer).map((i) => [String(data.cells.expert[i]), `expert ${data.cells.expert[i]}`]) : [];
    const clean = WHOLE_TOKEN.includes(spec.key);
    fill(this.controls, 
      choice("Colour by", [
        ["What an edit does", data.outcomeOptions()],
        ["Where the strongest effect is", [["layer", "layer"], ["expert", "expert"]]],
        ["The intact model", [["nll", "loss"], ["p_top", "probability of the top prediction"]]],
        ["What its experts are", [["use", "use"], ...data.metricOptions()]],
      ], spec.key, (key) => this.colour({ ...spec, key })),
      clean ? "" : choice("In", [[null, layers]], has(spec.layer) ? String(spec.layer) : "", (l) => this.colour({ key: spec.key, layer: l === "" ? null : Number(l), expert: null })),
      clean || !has(spec.layer) ? "" : choice("Expert", [[null, [["", "every chosen expert"], ...experts]]], has(spec.expert) ? String(spec.expert) : "", (e) => this.colour({ ...spec, expert: e === "" ? null : Number(e) })),
      choice("Domain", [[null, [["", "all domains"], ...data.domains.map((d, i) => [String(i), d]).filter(([i]) => data.documents.some((doc) => doc.domain === Number(i)))]]], this.domain, (d) => {
        this.domain = d;
        this.order = null;
        this.show(this.spec, null);
        say(`${plural(this.documents().length, "document")} shown`);
      }));
    const notes = [
      ...(spec.unknown ? [make("b", {}, `The colour \u201c${visible(spec.unknown)}\u201d of the address is not known on this page; this is shown instead.`)] : []),
      `${this.said()}, on the prediction of the next token`,
      ...(has(spec.expert) ? ["uncoloured: the token did not choose it"] : []),
      ...(spec.key === "expert" ? ["colours only tell experts apart: none means harm or help"] : []),
    ];
    fill(this.legend, this.named() ? namesLegend(this.scale, notes) : legendOf(this.scale, (x) => this.write(x), notes));
  }

  // A strip a document: where in the text something is.
  drawOverview() {
    fill(this.overview, ...this.documents().map((d) => {
      const values = this.coloured.get(d.document);
      const sizes = this.size.get(d.document);
      const bins = Math.min(96, values.length);
      const strip = [...Array(bins).keys()].map((b) => {
        const [from, to] = [b, b + 1].map((k) => Math.floor((k * values.length) / bins));
        let most = null;
        for (let p = from; p < to; p += 1) if (has(values[p]) && (most === null || sizes[p] > sizes[most])) most = p;
        return make("i", { class: this.scale.css(most === null ? null : values[most]) });
      });
      return button([make("span", {}, `${d.document} \u00b7 ${this.data.domains[d.domain]}`), make("span", { class: "xp-strip", "aria-hidden": "true" }, strip)],
        () => { this.at = d.document; this.drawOverview(); this.drawText(null); say(`Document ${d.document} shown`); },
        { class: "xp-pick", "data-doc": d.document, "aria-pressed": String(d.document === this.at), "aria-label": `Document ${d.document}, ${this.data.domains[d.domain]}` });
    }));
    roving(this.overview, ".xp-pick", stepByPlace);
  }

  drawText(open) {
    const doc = this.data.byNumber.get(this.at);
    if (!doc) { fill(this.text, "No document of this domain is in the sample."); return; }
    const values = this.coloured.get(this.at);
    this.head.textContent = `Document ${doc.document}, ${this.data.domains[doc.domain]}, ${plural(doc.text.length, "token")}`;
    fill(this.text, ...doc.text.flatMap((text, p) => {
      const chosen = open && open[0] === this.at && this.data.place(open) === p;
      const node = make("span", { class: `tok ${this.scale.css(values[p])}${chosen ? " xp-open" : ""}`, role: "button", tabindex: "-1", "data-at": p,
        "aria-label": `${visible(text)}, ${has(values[p]) ? this.write(values[p]) : "no value"}`, title: `position ${this.data.token(this.at, p)[1]}: ${has(values[p]) ? this.write(values[p]) : "no value"}`, "aria-pressed": chosen ? "true" : null }, visible(text));
      return [node, ...Array(Math.min(3, text.split("\n").length - 1)).fill(0).map(() => make("br"))];
    }));
    this.rove ??= roving(this.text, ".tok", stepByPlace);
    if (open && open[0] === this.at) this.last = open;
    const start = (this.last && this.node(this.last)) ?? this.text.querySelector(".tok");
    if (start) this.rove(start);
  }

  // Where a token [document, position] stands in the shown text; null where it does not.
  node(token) { return token[0] === this.at ? this.text.querySelector(`[data-at="${this.data.place(token)}"]`) : null; }

  // Along the tokens of the shown domain from the largest value down.
  strongest(way) {
    this.order ??= this.documents().flatMap((d) => this.size.get(d.document).map((v, p) => [v, d.document, p]))
      .filter(([v]) => has(v)).sort((a, b) => b[0] - a[0]);
    if (!this.order.length) { say("No token has a value under this colour."); return; }
    const place = this.last && this.data.place(this.last);
    const here = this.last ? this.order.findIndex(([, d, p]) => d === this.last[0] && p === place) : -1;
    const to = Math.max(0, Math.min(this.order.length - 1, here + way));
    const [, document, p] = this.order[to];
    const v = this.coloured.get(document)[p];
    this.open(this.data.token(document, p), null, false, true);
    this.text.querySelector(".tok.xp-open")?.focus({ preventScroll: true });
    say(`${ordinal(to + 1)} strongest of ${count(this.order.length)}: ${quoted(this.data.byNumber.get(document).text[p])}, ${this.write(v)}`);
  }
}
