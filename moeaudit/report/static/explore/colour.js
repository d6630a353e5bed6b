// Colour classes with bounds that one extreme cell cannot move. The style sheet turns classes into colours.
const SHARES = [1 / 16, 1 / 4, 1 / 2, 1]; // of the 98% quantile of the sizes

// Four bounds between five classes; where many values are 0, they are a class, and the rest are split.
const quantiles = (sorted) => {
  const some = sorted.filter((v) => v > 0);
  const zeros = sorted.length - some.length;
  const split = zeros > sorted.length / 5 && some.length ? [some, [0, 0.25, 0.5, 0.75]] : [sorted, [0.2, 0.4, 0.6, 0.8]];
  return split[1].map((q) => quantile(split[0], q)).filter(has);
};

const scaleOf = (values, signed) => {
  const sizes = ascending(values.map((v) => (has(v) ? Math.abs(v) : null)));
  const edges = signed
    ? SHARES.map((share) => share * (quantile(sizes, 0.98) || 0))
    : [...new Set(quantiles(ascending(values)))];
  const steps = (size) => edges.filter((edge) => size >= edge && (edge > 0 || size > 0)).length;
  const css = (v) => {
    if (!has(v)) return "none";
    if (!signed) return `q${Math.round((steps(v) * 4) / Math.max(1, edges.length))}`;
    const step = steps(Math.abs(v));
    return v < 0 && step ? `dm${step}` : `d${step}`;
  };
  return { css, edges, signed, largest: sizes.at(-1) ?? null };
};

// The colours with the numbers where they change.
const legendOf = (scale, format, notes = []) => {
  const { edges, signed } = scale;
  const shownEdges = signed ? [...edges.map((e) => -e).reverse(), ...edges] : edges;
  const classes = signed
    ? ["dm4", "dm3", "dm2", "dm1", "d0", "d1", "d2", "d3", "d4"]
    : [...Array(edges.length + 1).keys()].map((i) => `q${Math.round((i * 4) / Math.max(1, edges.length))}`);
  const steps = classes.map((css, i) => make("span", { class: "xp-step" },
    make("i", { class: css }),
    make("small", {}, i < shownEdges.length ? format(shownEdges[i]) : "")));
  return make("div", { class: "xp-legend" },
    make("span", { class: "xp-steps", role: "img", "aria-label": `Colours change at ${shownEdges.map(format).join(", ")}` }, steps),
    notes.map((note) => make("span", { class: "xp-note" }, note)));
};
const sample = (css, text) => [make("i", { class: `xp-sample ${css}` }), ` ${text}`];

// Names have no order: the most frequent get a colour of their own, the rest share one. Layers have: five parts of the depth.
const NAMED = ["dm4", "d4", "q4", "d2", "dm2"];
const namesScale = (values, name) => {
  const counts = new Map();
  for (const v of values.filter(has)) counts.set(v, (counts.get(v) ?? 0) + 1);
  const often = [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  const total = values.filter(has).length;
  const own = new Map(often.slice(0, NAMED.length).map(([v], k) => [v, NAMED[k]]));
  const rest = often.slice(NAMED.length).reduce((sum, [, n]) => sum + n, 0);
  return {
    css: (v) => (has(v) ? own.get(v) ?? "q0" : "none"), edges: [], signed: false,
    names: [...often.slice(0, NAMED.length).map(([v, n]) => [own.get(v), `${name(v)}, ${percent(n / total, 0)} of tokens`]),
      ...(rest ? [["q0", `${plural(often.length - NAMED.length, "other")}, ${percent(rest / total, 0)}`]] : [])],
  };
};
const depthScale = (values, layers) => {
  const part = (layer) => Math.floor((layers.indexOf(layer) * 5) / layers.length);
  const total = values.filter(has).length;
  const parts = [0, 1, 2, 3, 4].map((k) => layers.filter((l) => part(l) === k)).map((some, k) => [`q${k}`, some]).filter(([, some]) => some.length);
  return {
    css: (v) => (has(v) ? `q${part(v)}` : "none"), edges: [], signed: false,
    names: parts.map(([css, some]) => [css, `${some.length > 1 ? `layers ${some[0]} to ${some.at(-1)}` : `layer ${some[0]}`}, ${percent(values.filter((v) => some.includes(v)).length / total, 0)} of tokens`]),
  };
};
const namesLegend = (scale, notes) => make("div", { class: "xp-legend" },
  scale.names.map(([css, text]) => make("span", {}, sample(css, text))), notes.map((note) => make("span", { class: "xp-note" }, note)));
