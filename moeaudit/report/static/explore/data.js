// What was packed into the page, and ways into it. Nothing is unpacked before it is asked for.
const unpack = async () => {
  const packed = document.getElementById("explore-gz").textContent.trim();
  const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Explored(JSON.parse(await new Response(stream).text()));
};

class Explored {
  constructor(raw) {
    Object.assign(this, raw);
    const { layer, expert } = this.cells;
    this.size = layer.length;
    this.index = new Map(layer.map((l, i) => [`${l}.${expert[i]}`, i]));
    this.ofLayer = new Map(this.layers.map((l) => [l, []]));
    layer.forEach((l, i) => this.ofLayer.get(l)?.push(i));
    this.byNumber = new Map(this.documents.map((d) => [d.document, d]));
    for (const d of this.documents) d.places = new Map((d.positions ?? d.text.map((_, p) => p)).map((at, p) => [at, p]));
    this.perDomain = new Map();
    const by = this.by_domain;
    by.cell.forEach((cell, i) => {
      if (!this.perDomain.has(cell)) this.perDomain.set(cell, []);
      this.perDomain.get(cell).push({
        domain: by.domain[i], n: by.n[i], harm: by.delta_nll[i],
        low: by.delta_nll_low[i], high: by.delta_nll_high[i], kl: by.kl[i],
      });
    });
    this.inLayer = new Map(this.layers.map((l) => [
      l, this.ofLayer.get(l).reduce((sum, i) => sum + (this.cells.n[i] || 0), 0),
    ]));
    const first = this.documents[0];
    this.perToken = first ? Object.values(first.layers)[0].expert[0].length : null; // experts a token chooses
  }

  tested() { return this.cells.delta_nll_low.filter((low, i) => has(low) && has(this.cells.delta_nll_high[i])).length; } // experts with limits
  name(i) { return `layer ${this.cells.layer[i]} expert ${this.cells.expert[i]}`; }
  short(i) { return `${this.cells.layer[i]}.${this.cells.expert[i]}`; }
  href(i) { return `#expert=${this.short(i)}`; }
  cell(layer, expert) { return this.index.get(`${layer}.${expert}`) ?? null; }

  // A token is named document.position; within a document's lists it stands at a place.
  token(document, place) {
    const { positions } = this.byNumber.get(document);
    return [document, positions ? positions[place] : place];
  }
  place([document, position]) { return this.byNumber.get(document)?.places.get(position) ?? null; }
  tokenHref(document, place) { return `#token=${this.token(document, place).join(".")}`; }

  // What a map or a table can show of a cell: [name, values, unit, signed].
  shown(key) {
    if (key === "use") return ["use (share of the layer's choices)", this.cells.use, "share", false];
    if (key === "weight") return ["mean gate weight", this.cells.weight, "", false];
    if (key.startsWith("m.")) {
      const name = key.slice(2);
      return [this.metrics[name].name, this.metric_values[name], "", false];
    }
    const outcome = this.outcomes[key];
    return [outcome.name, this.cells[key], outcome.unit, outcome.signed];
  }

  shows(key) {
    if (key === "use" || key === "weight") return true;
    if (key.startsWith("m.")) return Object.hasOwn(this.metric_values, key.slice(2));
    return Object.hasOwn(this.outcomes, key) && Object.hasOwn(this.cells, key);
  }

  metricOptions() { return Object.entries(this.metrics).map(([key, m]) => [`m.${key}`, m.name]); }
  outcomeOptions() {
    return Object.entries(this.outcomes).filter(([key]) => this.cells[key]).map(([key, o]) => [key, o.name]);
  }

  // Harm spread over all tokens of the text: mean harm times how often a token chooses the expert.
  perText(i) {
    const { n, delta_nll, layer } = this.cells;
    const tokens = this.perToken && this.inLayer.get(layer[i]) / this.perToken;
    return tokens && has(delta_nll[i]) ? (delta_nll[i] * n[i]) / tokens : null;
  }

  // The expert with the strongest effect at a token: [cell, size of the effect in nats]; null where none was measured.
  strongest(doc, place) {
    let most = null;
    for (const [layer, at] of Object.entries(doc.layers)) {
      at.delta_nll[place].forEach((v, r) => {
        if (has(v) && (most === null || Math.abs(v) > most[1])) most = [this.cell(Number(layer), at.expert[place][r]), Math.abs(v)];
      });
    }
    return most;
  }

  // A token's experts, layer by layer: [layer, [{expert, weight, harm, kl, flip, top}, ...]].
  route(number, place) {
    const found = this.byNumber.get(number);
    return Object.entries(found.layers).map(([layer, at]) => [
      Number(layer),
      at.expert[place].map((expert, r) => ({
        expert, weight: at.weight[place][r], harm: at.delta_nll[place][r],
        kl: at.kl[place][r], flip: Boolean(at.flip[place][r]),
        top: at.top ? this.strings[at.top[place][r]] ?? null : null,
      })),
    ]);
  }
}

const quantile = (sorted, q) => {
  if (!sorted.length) return null;
  const at = (sorted.length - 1) * q;
  const low = Math.floor(at);
  const next = sorted[Math.min(low + 1, sorted.length - 1)];
  return sorted[low] + (at - low) * (next - sorted[low]);
};
const ascending = (values) => values.filter(has).sort((a, b) => a - b);
