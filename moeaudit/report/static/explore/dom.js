// Elements. Text from models and corpora comes in as strings and becomes text nodes, nothing else.
const make = (tag, given = {}, ...inside) => {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "vars") for (const [name, v] of Object.entries(value)) node.style.setProperty(name, v);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...present(inside));
  return node;
};
const present = (inside) => inside.flat(Infinity).filter((x) => x !== null && x !== undefined && x !== false);
const fill = (node, ...inside) => node.replaceChildren(...present(inside));

const button = (text, act, given = {}) => make("button", { type: "button", onclick: act, ...given }, text);

// A control under its name.
let named = 0;
const underName = (name, control) => {
  control.id = `xp-named-${named += 1}`;
  return make("div", { class: "xp-choice" }, make("label", { for: control.id }, name), control);
};

const choice = (label, groups, value, act) => {
  const option = ([key, text]) => make("option", { value: key, selected: key === value }, text);
  const select = make("select", { onchange: () => act(select.value) },
    groups.map(([name, options]) => (name ? make("optgroup", { label: name }, options.map(option)) : options.map(option))));
  return underName(label, select);
};

// One politely spoken line for those who do not see what changed.
const spoken = make("p", { class: "xp-spoken", role: "status", "aria-live": "polite" });
const say = (text) => {
  spoken.textContent = "";
  requestAnimationFrame(() => { spoken.textContent = text; });
};

// One tab stop for a whole field of things; arrow keys move within it (`step` says where to).
const roving = (box, pick, step) => {
  const all = () => [...box.querySelectorAll(pick)];
  const rove = (node) => {
    for (const other of box.querySelectorAll(`${pick}[tabindex="0"]`)) other.tabIndex = -1;
    node.tabIndex = 0;
  };
  box.addEventListener("focusin", (event) => {
    const node = event.target.closest(pick);
    if (node) rove(node);
  });
  box.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const node = event.target.closest?.(pick);
    if (!node) return;
    const items = all();
    const to = step(event.key, items.indexOf(node), items);
    if (to === null || to === undefined) return;
    event.preventDefault();
    items[Math.max(0, Math.min(items.length - 1, to))].focus();
  });
  for (const [i, node] of all().entries()) node.tabIndex = i ? -1 : 0;
  return rove;
};

// Left, right, Home and End in reading order; up and down to the nearest thing in that direction as it is drawn.
const stepByPlace = (key, at, items) => {
  if (key === "ArrowRight") return at + 1;
  if (key === "ArrowLeft") return at - 1;
  if (key === "Home") return 0;
  if (key === "End") return items.length - 1;
  if (key !== "ArrowDown" && key !== "ArrowUp") return null;
  const way = key === "ArrowDown" ? 1 : -1;
  const here = items[at].getBoundingClientRect();
  const middle = here.left + here.width / 2;
  let best = null;
  let line = null;
  for (let i = at + way; i >= 0 && i < items.length; i += way) {
    const box = items[i].getBoundingClientRect();
    if (way * (box.top - here.top) < here.height / 2) continue;
    line ??= box.top;
    if (Math.abs(box.top - line) > here.height / 2) break;
    const off = Math.abs(box.left + box.width / 2 - middle);
    if (best === null || off < best.off) best = { i, off };
  }
  return best && best.i;
};

const copyText = async (text) => {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const box = make("textarea", { class: "xp-spoken", "aria-hidden": "true" });
    box.value = text;
    document.body.append(box);
    box.select();
    document.execCommand("copy");
    box.remove();
  }
};

const download = (name, text) => {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
};

// A text that begins like a formula would run in a spreadsheet; a quote in front keeps it text.
const csvField = (value) => {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};
const csv = (rows) => rows.map((row) => row.map(csvField).join(",")).join("\r\n") + "\r\n";
