// Which experts can be spared? A table to sort and filter; what it claims is what the limits say, and no more.
const FIRST_ROWS = 60;

class Spare {
  constructor(data, said) {
    this.data = data;
    this.said = said;
    this.sort = { key: "high", up: true };
    this.filter = { layer: "", domain: "", grade: "", accept: "" };
    this.all = false;
    this.counts = make("p", { class: "xp-lead" });
    this.table = make("table", { class: "xp-table xp-spare" });
    this.more = make("p", { class: "xp-hint" });
    this.controls = make("div", { class: "xp-controls" });
    this.box = make("div", {}, this.counts, this.controls,
      make("div", { class: "xp-tall", role: "region", tabindex: "0", "aria-label": "Experts by harm" }, this.table), this.more,
      make("p", { class: "xp-hint" }, `Harm is the mean effect of one ${said.one} at one token that chose the expert, in nats, with 95% limits over documents. `,
        "\u201cPer token of text\u201d spreads it over all tokens: harm times how often it is chosen. Each expert was edited alone: edited together, they may cost more or less than the sum. ",
        data.pruning ? "\u201cGoes by \u2026 at\u201d is the largest share of experts kept at which that criterion let the expert go; what pruning all of them together cost stands under Pruning." : "What pruning them together costs was not measured in this run."));
    this.drawControls();
    this.draw();
  }

  // Rows under the chosen domain, with the grade that their own limits give them.
  rows() {
    const { data } = this;
    const wanted = this.filter.domain === "" ? null : Number(this.filter.domain);
    const c = data.cells;
    return [...Array(data.size).keys()].map((i) => {
      const part = wanted === null ? null : (data.perDomain.get(i) ?? []).find((r) => r.domain === wanted) ?? { n: 0, harm: null, low: null, high: null, kl: null };
      const row = {
        i, layer: c.layer[i], expert: c.expert[i], use: c.use[i],
        n: part ? part.n : c.n[i], harm: part ? part.harm : c.delta_nll[i], low: part ? part.low : c.delta_nll_low[i],
        high: part ? part.high : c.delta_nll_high[i], kl: part ? part.kl : c.kl[i], text: part ? null : data.perText(i),
      };
      row.grade = gradeOf(row.low, row.high);
      for (const [name, values] of this.pruned()) row[`pruning.${name}`] = values[i];
      return row;
    });
  }

  pruned() { return Object.entries(this.data.pruning ?? {}).filter(([, v]) => Array.isArray(v) && v.length === this.data.size); }

  columns() {
    return [
      ["place", "expert", (r) => make("a", { href: this.data.href(r.i) }, `layer ${r.layer} \u00b7 ${r.expert}`), (r) => r.layer * 1e5 + r.expert, ""],
      ["grade", "what the limits say", (r) => make("span", { class: `xp-grade xp-is-${r.grade}` }, this.word(r)), (r) => ["helps", "open", "harms", "unknown"].indexOf(r.grade), ""],
      ["harm", "harm (nats)", (r) => (has(r.harm) ? significant(r.harm, 2, true) : DASH), (r) => r.harm, "n"],
      ["high", "limits, by the upper", (r) => (has(r.low) ? limits(r.low, r.high) : DASH), (r) => r.high, "n"],
      ["n", "n", (r) => count(r.n), (r) => r.n, "n"],
      ["use", "use", (r) => percent(r.use), (r) => r.use, "n"],
      ["text", "per token of text", (r) => significant(r.text, 2, true), (r) => r.text, "n"],
      ["kl", "KL", (r) => significant(r.kl, 2), (r) => r.kl, "n"],
      ...this.pruned().map(([name]) => [`pruning.${name}`, `goes by ${name} at`, (r) => (has(r[`pruning.${name}`]) ? percent(r[`pruning.${name}`], 0) : "stays"), (r) => r[`pruning.${name}`], "n"]),
    ];
  }

  accepted() { const x = Number(this.filter.accept); return this.filter.accept !== "" && x > 0 ? x : null; }
  within(r) { return has(r.high) && this.accepted() !== null && r.high < this.accepted(); }
  word(r) { return this.within(r) && r.grade !== "helps" ? `${GRADES[r.grade]}, less than ${this.accepted()}` : GRADES[r.grade]; }

  kept() {
    const { layer, grade } = this.filter;
    const rows = this.rows().filter((r) => (layer === "" || r.layer === Number(layer)) && (grade === "" || (grade === "within" ? this.within(r) : r.grade === grade)));
    const value = this.columns().find(([key]) => key === this.sort.key)[3];
    const way = this.sort.up ? 1 : -1;
    // what has no value comes last, whichever way
    return rows.sort((a, b) => (has(value(b)) - has(value(a))) || (has(value(a)) ? way * (value(a) - value(b)) : 0) || a.i - b.i);
  }

  drawControls() {
    const { data, filter } = this;
    const set = (name) => (value) => { filter[name] = value; this.draw(); say(`${plural(this.kept().length, "expert")} shown`); };
    const accept = make("input", { type: "number", min: "0", step: "any", inputmode: "decimal", placeholder: "none", oninput: () => set("accept")(accept.value) });
    this.copied = button("Copy", async () => { await copyText(this.lines().map((r) => r.map((v) => v ?? "").join("\t")).join("\n")); say("Table copied"); this.copied.textContent = "Copied"; setTimeout(() => { this.copied.textContent = "Copy"; }, 1500); });
    fill(this.controls, 
      choice("Layer", [[null, [["", "all"], ...data.layers.map((l) => [String(l), String(l)])]]], filter.layer, set("layer")),
      choice("Harm in", [[null, [["", "all domains"], ...data.domains.map((d, i) => [String(i), d])]]], filter.domain, set("domain")),
      choice("Limits say", [[null, [["", "anything"], ...Object.entries(GRADES), ["within", "less than I accept"]]]], filter.grade, set("grade")),
      underName("Harm I accept (nats)", accept),
      make("span", { class: "xp-actions" }, button("Download CSV", () => { download(`${data.model.replace(/[^\w.-]+/g, "-")}-experts.csv`, csv(this.lines())); say("CSV saved"); }), this.copied));
  }

  // Every row that the filters keep, shown or not, with all digits there are.
  lines() {
    const pruned = this.pruned().map(([name]) => name);
    const domain = this.filter.domain === "" ? "all" : this.data.domains[Number(this.filter.domain)];
    return [
      ["layer", "expert", "domain", "limits_say", "harm_nats", "harm_low", "harm_high", "kl_nats", "n", "use", "harm_per_token_of_text", ...pruned.map((n) => `kept_when_it_goes_by_${n}`)],
      ...this.kept().map((r) => [r.layer, r.expert, domain, GRADES[r.grade], r.harm, r.low, r.high, r.kl, r.n, r.use, r.text, ...pruned.map((n) => r[`pruning.${n}`])]),
    ];
  }

  draw() {
    const rows = this.kept();
    const everything = this.rows();
    const tell = (grade) => everything.filter((r) => r.grade === grade).length;
    const tested = everything.length - tell("unknown");
    const where = this.filter.domain === "" ? "" : ` in ${this.data.domains[Number(this.filter.domain)]}`;
    const settledNow = tell("harms") + tell("helps");
    fill(this.counts, 
      `Of ${plural(everything.length, "expert")}${where}: `, make("b", {}, `${plural(tell("harms"), "costs", "cost")}`), this.said.removes ? " something to lose (limits above 0), " : " something (limits above 0), ",
      make("b", {}, `${plural(tell("helps"), "helps", "help")}`), this.said.removes ? " by being gone (limits below 0), " : " (limits below 0), ", make("b", {}, `${plural(tell("open"), "is", "are")} not settled`),
      tell("unknown") ? ` and ${plural(tell("unknown"), "was", "were")} chosen in too few documents for limits` : "", ". ",
      tested ? (settledNow <= 2 * Math.max(1, byChance(tested))
        ? `Limits that leave out 0 are what about ${byChance(tested)} of ${count(tested)} would show by chance alone: this is little more than noise can do.`
        : `By chance alone about ${byChance(tested)} of ${count(tested)} limits would leave out 0.`) : "Nothing can be said about any of them.",
      ` An expert that is not settled is not shown to be ${this.said.removes ? "spared safely" : "harmless"}: the upper limit says what it may cost.`,
      this.accepted() === null ? "" : ` ${plural(everything.filter((r) => this.within(r)).length, "expert")} ${everything.filter((r) => this.within(r)).length === 1 ? "has its" : "have their"} upper limit below the ${this.accepted()} nats that you accept.`);
    const columns = this.columns();
    const head = columns.map(([key, name, , , css]) => make("th", { scope: "col", class: css, "aria-sort": this.sort.key === key ? (this.sort.up ? "ascending" : "descending") : null },
      button([name, make("span", { "aria-hidden": "true" }, this.sort.key === key ? (this.sort.up ? " \u2191" : " \u2193") : "")], () => {
        this.sort = { key, up: this.sort.key === key ? !this.sort.up : true };
        this.draw();
        this.table.querySelector(`[data-key="${CSS.escape(key)}"]`).focus();
        say(`Sorted by ${name}, ${this.sort.up ? "smallest" : "largest"} first`);
      }, { class: "xp-sort", "data-key": key })));
    const shown = this.all ? rows : rows.slice(0, FIRST_ROWS);
    fill(this.table, 
      make("caption", { class: "xp-spoken" }, "Experts with harm and limits; a row\u2019s link opens the expert\u2019s card"),
      make("thead", {}, make("tr", {}, head)),
      make("tbody", {}, shown.map((r) => make("tr", {}, columns.map(([key, name, write, , css], k) => make(k ? "td" : "th", { scope: k ? null : "row", class: css || null, "data-label": name }, write(r)))))));
    fill(this.more, `${count(shown.length)} of ${plural(rows.length, "expert")} shown. `,
      rows.length > FIRST_ROWS ? button(this.all ? `Show the first ${FIRST_ROWS}` : `Show all ${count(rows.length)}`, () => { this.all = !this.all; this.draw(); }) : "");
  }
}
