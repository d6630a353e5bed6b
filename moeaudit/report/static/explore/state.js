// Where the reader is, in the fragment alone, so that back, forward and a copied link work.
const VIEWS = ["map", "spare", "tokens"];
const pairOf = (text) => (/^\d+\.\d+$/.test(text) ? text.split(".").map(Number) : null);

// null where a fragment is none of ours.
const readState = (hash) => {
  const state = { view: null, expert: null, token: null, show: null, color: null };
  let ours = false;
  for (const part of hash.replace(/^#/, "").split("&")) {
    const [key, raw] = [part.split("=")[0], part.slice(part.indexOf("=") + 1)];
    let value = raw;
    try { value = decodeURIComponent(raw); } catch { /* a stray % stays as it was typed */ }
    if (part === "explore") { ours = true; state.view ??= "map"; }
    else if (VIEWS.includes(part)) { ours = true; state.view = part; }
    else if (key === "expert" || key === "token") { ours = true; state[key] = pairOf(value) ?? "bad"; }
    else if (key === "view" && VIEWS.includes(value)) state.view = value;
    else if (key === "show" || key === "color") state[key] = value;
  }
  if (!ours) return null;
  state.view ??= state.token ? "tokens" : "map";
  return state;
};

const writeState = (state) => {
  const parts = [];
  if (state.token) parts.push(`token=${state.token.join(".")}`);
  else if (state.expert) parts.push(`expert=${state.expert.join(".")}`);
  if (!parts.length) parts.push(state.view);
  else if (state.view !== (state.token ? "tokens" : "map")) parts.push(`view=${state.view}`);
  if (state.show && state.show !== "delta_nll") parts.push(`show=${encodeURIComponent(state.show)}`);
  if (state.color && state.color !== "delta_nll") parts.push(`color=${encodeURIComponent(state.color)}`);
  return `#${parts.join("&")}`;
};

// A link in the panel or the page names what it opens; where one reads and how it is coloured stays.
const keep = (state, before) => ({
  ...state,
  show: state.show ?? before.show,
  color: state.color ?? before.color,
});

// color=KEY, KEY@layer or KEY@layer.expert; `unknown` is what was asked for and is not there
const WHOLE_TOKEN = ["nll", "p_top", "layer", "expert"]; // colours that are not of single experts
const readColour = (text, data) => {
  const [key, place = ""] = (text || "delta_nll").split("@");
  const known = WHOLE_TOKEN.includes(key) || data.shows(key);
  const [layer, expert] = place.split(".").map((x) => (/^\d+$/.test(x) ? Number(x) : null));
  const there = has(layer) && data.layers.includes(layer);
  const found = {
    key: known ? key : "delta_nll",
    layer: there ? layer : null,
    expert: there && has(expert) && data.cell(layer, expert) !== null ? expert : null,
  };
  return { ...found, unknown: writeColour(found) === (text || "delta_nll") ? null : text };
};
const writeColour = ({ key, layer, expert }) =>
  key + (has(layer) ? `@${layer}${has(expert) ? `.${expert}` : ""}` : "");
