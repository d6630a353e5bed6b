// Tables that sort, filter, copy and download. Without this script they are whole tables all the same.
(() => {
  "use strict";
  const LONG = 8; // rows from which on a filter is worth its place
  const make = (tag, attributes, text) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text) node.textContent = text;
    return node;
  };
  const heading = (th) => th.dataset.name ?? th.textContent.trim();
  const words = (cell) => cell.innerText.replace(/\s+/g, " ").trim();
  const full = (cell) => cell.dataset.value ?? words(cell);
  // What a cell sorts by: its full value, else the first number that stands in it, else its words.
  const key = (cell) => {
    if (!cell) return null;
    const text = full(cell);
    if (text === "" || text === "\u2013") return null;
    const plain = text.replace(/\u2212/g, "-").replace(/(\d),(?=\d{3})/g, "$1");
    const found = /^[<+]?\s*(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)/i.exec(plain);
    return found ? Number(found[1]) : text.toLowerCase();
  };
  const compare = (a, b) => {
    if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1; // gaps stay last
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  };

  // A spreadsheet runs what begins like a formula: such words get a quote in front, numbers do not.
  const guarded = (text) => (/^[=+\-@\t\r]/.test(text) && !/^[+-]?[\d.]+(e[+-]?\d+)?$/i.test(text) ? `'${text}` : text);
  const quoted = (text, separator) =>
    separator === "," && /[",\n\r]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text.replace(/[\t\n\r]+/g, " ");
  const rowsOf = (table) => [...table.tBodies[0].rows].filter((row) => !row.hidden);
  const grid = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    const rows = rowsOf(table);
    const limits = heads.map((_, i) => rows.some((row) => row.cells[i]?.dataset.low !== undefined));
    const head = heads.flatMap((th, i) => (limits[i] ? [heading(th), "low", "high"] : [heading(th)]));
    const body = rows.map((row) =>
      heads.flatMap((_, i) => {
        const cell = row.cells[i];
        const plain = (cell ? full(cell) : "").replace(/\u2212/g, "-");
        return limits[i] ? [plain, cell?.dataset.low ?? "", cell?.dataset.high ?? ""] : [plain];
      }));
    return [head, ...body];
  };
  const text = (table, separator) =>
    grid(table).map((row) => row.map((c) => quoted(guarded(c), separator)).join(separator)).join("\n");

  const sortable = (table, said) => {
    [...table.tHead.rows[0].cells].forEach((th, i) => {
      const name = th.textContent.trim();
      if (!name) return;
      th.dataset.name = name;
      const button = make("button", { type: "button", class: "sort" });
      button.append(...th.childNodes);
      th.append(button);
      button.addEventListener("click", () => {
        const up = th.getAttribute("aria-sort") !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        th.setAttribute("aria-sort", up ? "ascending" : "descending");
        const rows = [...table.tBodies[0].rows].map((row) => [key(row.cells[i]), row]);
        rows.sort(([a], [b]) => (a === null || b === null ? compare(a, b) : up ? compare(a, b) : compare(b, a)));
        table.tBodies[0].append(...rows.map(([, row]) => row));
        said.textContent = `Sorted by ${name}, ${up ? "ascending" : "descending"}.`;
      });
    });
  };

  const copy = async (value, button, label) => {
    try {
      await navigator.clipboard.writeText(value);
      button.textContent = "Copied";
    } catch {
      // A page opened from a file may have no clipboard: select instead, and let the reader copy.
      const area = make("textarea", { "aria-label": "Text to copy", class: "tools", rows: "6" });
      area.value = value;
      button.after(area);
      area.select();
      button.textContent = document.execCommand?.("copy") ? "Copied" : "Selected: copy with the keyboard";
      setTimeout(() => area.remove(), 6000);
    }
    setTimeout(() => { button.textContent = label; }, 2500);
  };

  document.querySelectorAll("div.scroll > table").forEach((table) => {
    if (!table.tHead || !table.tBodies[0]) return;
    const caption = table.caption?.textContent.trim() ?? "table";
    const total = table.tBodies[0].rows.length;
    const bar = make("div", { class: "tools" });
    const said = make("span", { role: "status", class: "said" });
    if (total > 1) sortable(table, said);
    if (total >= LONG) {
      const field = make("input", { type: "search", placeholder: "Filter rows", "aria-label": `Filter rows: ${caption}` });
      field.addEventListener("input", () => {
        const wanted = field.value.toLowerCase().split(/(?<!,)\s+/).filter(Boolean);
        for (const row of table.tBodies[0].rows) {
          // "5, 0" names a cell, such as a layer and its expert; limits, which have commas as well, are no match.
          const cells = [...row.cells].map((cell) => cell.textContent.trim().toLowerCase());
          row.hidden = !wanted.every((word) => cells.some((cell) => (word.includes(",") ? cell.startsWith(word) : cell.includes(word))));
        }
        const left = rowsOf(table).length;
        said.textContent = left === total ? "" : `${left} of ${total} rows`;
      });
      bar.append(field);
    }
    const take = make("button", { type: "button", "aria-label": `Copy: ${caption}` }, "Copy");
    take.addEventListener("click", () => copy(text(table, "\t"), take, "Copy"));
    const save = make("button", { type: "button", "aria-label": `Download as CSV: ${caption}` }, "CSV");
    save.addEventListener("click", () => {
      const file = new Blob(["\ufeff", text(table, ","), "\n"], { type: "text/csv;charset=utf-8" });
      const name = caption.toLowerCase().replace(/[^a-z0-9]+/g, "-").slice(0, 60).replace(/^-|-$/g, "");
      const link = make("a", { href: URL.createObjectURL(file), download: `${name || "table"}.csv` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    });
    bar.append(take, save, said);
    table.parentElement.before(bar);
  });

  for (const box of document.querySelectorAll("pre.copy")) {
    const button = make("button", { type: "button", "aria-label": `Copy: ${box.getAttribute("aria-label")}` }, "Copy");
    button.addEventListener("click", () => copy(box.textContent, button, "Copy"));
    const bar = make("div", { class: "tools" });
    bar.append(button);
    box.after(bar);
  }
})();
