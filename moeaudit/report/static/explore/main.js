// The place itself: three ways in (map, table, text), one panel for what was opened, the fragment as its memory.
class Place {
  constructor(root, data) {
    this.root = root;
    this.data = data;
    this.said = { one: "removal", many: "removals", removes: true, ...data.said };
    this.state = { view: "map", expert: null, token: null, show: null, color: null };
    this.opener = null;
    const name = { map: "Map of experts", spare: this.said.removes ? "Which experts can be spared?" : "Experts by harm", tokens: "Token by token" };
    this.map = new ExpertMap(data, (i, node, focus) => this.go({ expert: [data.cells.layer[i], data.cells.expert[i]], token: null }, node, focus));
    this.spare = new Spare(data, this.said);
    this.reader = new Reader(data, {
      open: (token, node, focus, quiet) => this.go({ token, expert: null }, node, focus, quiet),
      colour: (spec) => this.go({ color: writeColour(spec) }, null, false),
    });
    const boxes = { map: this.map.box, spare: this.spare.box, tokens: this.reader.box };
    this.tabs = Object.fromEntries(VIEWS.map((v) => [v, make("button", { type: "button", role: "tab", id: `xp-tab-${v}`, "aria-controls": `xp-${v}`, "aria-selected": "false", onclick: () => this.go({ view: v }, null, false) }, name[v])]));
    this.views = Object.fromEntries(VIEWS.map((v) => [v, make("div", { role: "tabpanel", id: `xp-${v}`, "aria-labelledby": `xp-tab-${v}`, hidden: true }, boxes[v])]));
    this.bar = make("div", { role: "tablist", class: "xp-tabs", "aria-label": "Ways in" }, Object.values(this.tabs));
    this.bar.addEventListener("keydown", (event) => {
      const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!way) return;
      event.preventDefault();
      const to = VIEWS[(VIEWS.indexOf(this.state.view) + way + VIEWS.length) % VIEWS.length];
      this.go({ view: to }, null, false);
      this.tabs[to].focus();
    });
    this.panel = make("div", { class: "xp-panel", role: "region", "aria-label": "What is open", hidden: true });
    fill(this.root, 
      make("p", { class: "caption" }, `One place for every expert and every sampled token: point, click, or use the keyboard. What is open stands in the address, so that back, forward and a copied link work. ${count(data.rows_shown)} of ${plural(data.rows, "row")} of the run can be opened token by token.`),
      finder(data), this.bar, Object.values(this.views), this.panel, spoken);
    // Redrawn text lets the focus fall to the body: keys work from there too, while the place is in sight.
    document.addEventListener("keydown", (event) => {
      const { target, key } = event;
      if (event.altKey || event.ctrlKey || event.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName)) return;
      const { top, bottom } = this.root.getBoundingClientRect();
      if (!this.root.contains(target) && !(target === document.body && top < innerHeight && bottom > 0)) return;
      if (key === "Escape" && !this.panel.hidden) { event.preventDefault(); this.close(); }
      if ((key === "n" || key === "p") && this.state.view === "tokens") { event.preventDefault(); this.reader.strongest(key === "n" ? 1 : -1); }
    });
  }

  // Change part of the state. `quiet` leaves no step to go back to.
  go(change, opener, focus, quiet = false) {
    const next = { ...this.state, ...change };
    if (opener) this.opener = opener;
    this.focus = focus;
    const hash = writeState(next);
    if (quiet) history.replaceState(null, "", hash);
    else if (hash !== location.hash) {
      this.own = hash; // what follows is ours, and drawn
      location.hash = hash;
    }
    this.draw(next, false);
  }

  // The fragment changed: by ourselves, a link, back, forward, or a typed address.
  follow() {
    const read = readState(location.hash);
    if (!read) return;
    const own = this.own === location.hash;
    this.own = null;
    if (own) return;
    const inside = this.root.contains(document.activeElement) && document.activeElement.closest(".xp-panel, .xp-found, .xp-spare");
    if (inside && !/view=/.test(location.hash) && (read.expert || read.token)) read.view = this.state.view === "spare" && read.expert ? "spare" : read.view;
    if (document.activeElement?.matches("a[href]") && (read.expert || read.token)) {
      if (!document.activeElement.closest(".xp-panel")) this.opener = document.activeElement;
      this.focus = true;
    }
    this.draw(keep(read, this.state), true);
  }

  draw(state, arrived) {
    this.state = state;
    for (const v of VIEWS) {
      this.views[v].hidden = v !== state.view;
      this.tabs[v].setAttribute("aria-selected", String(v === state.view));
      this.tabs[v].tabIndex = v === state.view ? 0 : -1;
    }
    const show = state.show && this.data.shows(state.show) ? state.show : "delta_nll";
    const { data } = this;
    let cell = null;
    let kin = [];
    let token = null;
    if (Array.isArray(state.expert) && !state.token) {
      cell = data.cell(...state.expert);
      kin = (data.beside?.[cell] ?? []).map(([e]) => data.cell(state.expert[0], e)).filter((i) => i !== null);
    } else if (Array.isArray(state.token) && data.place(state.token) !== null) {
      token = state.token;
      kin = data.route(token[0], data.place(token)).flatMap(([l, experts]) => experts.map((e) => data.cell(l, e.expert))).filter((i) => i !== null);
    }
    if (show !== this.shownKey) this.map.show(show, (key) => this.go({ show: key }, null, false));
    this.shownKey = show;
    this.map.mark(cell, kin);
    if (state.view === "map") this.map.fit();
    if (state.view === "tokens") this.reader.show(readColour(state.color, data), token);
    this.fill(state, cell, token);
    if (arrived) {
      // both in sight where both fit: what was asked for, and where it stands
      const below = this.panel.getBoundingClientRect().top - this.bar.getBoundingClientRect().top;
      const to = this.panel.hidden ? this.root.closest("section") : below > innerHeight * 0.6 ? this.panel : this.bar;
      to.scrollIntoView({ block: "start", behavior: "instant" });
    } else if (!this.panel.hidden) {
      const top = this.panel.getBoundingClientRect().top;
      if (top > innerHeight - 160) scrollBy(0, top - innerHeight * 0.4);
      else if (top < 0 && this.opened) this.panel.scrollIntoView({ block: "start" });
    }
    if (this.focus && !this.panel.hidden) this.panel.querySelector("h3").focus({ preventScroll: true });
    this.focus = false;
  }

  fill(state, cell, token) {
    const asked = state.token ?? state.expert;
    const key = token ? `t${token}` : cell !== null ? `e${cell}` : String(asked);
    this.panel.hidden = !asked;
    this.opened = asked && key !== this.filled;
    if (!asked || key === this.filled) { if (!asked) this.filled = null; return; }
    this.filled = key;
    const page = token ? routeOf(this.data, token[0], this.data.place(token), this.said)
      : cell !== null ? cardOf(this.data, cell, this.said)
        : { title: "Not here", body: [make("p", {}, state.token ? `That token is not among the sampled ones. ${this.data.sample}` : `This run has no such expert. Layers: ${this.data.layers.join(", ")}; experts are numbered from 0.`)] };
    const link = button("Copy link", async () => { await copyText(location.href); say("Link copied"); link.textContent = "Copied"; });
    fill(this.panel, 
      make("div", { class: "xp-panel-head" }, make("h3", { tabindex: "-1" }, page.title), page.where ? make("span", { class: "muted" }, page.where) : null,
        make("span", { class: "xp-actions" }, link, button("Close", () => this.close(), { "aria-keyshortcuts": "Escape" }))),
      page.body);
    say(`${page.title} opened`);
  }

  close() {
    const expert = Array.isArray(this.state.expert) ? this.data.cell(...this.state.expert) : null;
    const { opener } = this;
    const { token } = this.state;
    this.opener = null;
    this.go({ expert: null, token: null }, null, false);
    // what opened it may have been drawn anew: then its place in the text or on the map
    const back = [Array.isArray(token) && this.reader.node(token), opener, this.reader.text.querySelector('.tok[tabindex="0"]'), this.map.nodes[expert], this.tabs[this.state.view]];
    back.find((node) => node && node.isConnected && node.offsetParent).focus();
    say("Closed");
  }
}

const start = () => {
  const root = document.getElementById("explore");
  if (!root) return;
  const page = document.documentElement;
  page.classList.add("exploring"); // the static text stays for print, and for readers without scripts
  root.hidden = false;
  root.append(make("p", { class: "muted" }, "Loading\u2026"));
  let place = null;
  const open = () => {
    place ??= unpack().then((data) => { const made = new Place(root, data); made.draw(made.state, false); return made; }).catch((error) => {
      page.classList.remove("exploring");
      fill(root, make("p", { class: "muted" }, `Exploring is not available in this browser (${error.message}); the text below is complete.`));
      return null;
    });
    return place;
  };
  const follow = () => {
    const hash = location.hash === "#tokens" || readState(location.hash);
    if (hash) open().then((made) => made?.follow());
  };
  addEventListener("hashchange", follow);
  new IntersectionObserver((seen, watch) => {
    if (seen.some((s) => s.isIntersecting)) { watch.disconnect(); open(); }
  }, { rootMargin: "400px" }).observe(root);
  follow();
};
start();
