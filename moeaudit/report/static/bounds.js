// Slide the smallest effect of interest: counts and tables follow. The verdicts were computed beforehand, one letter a
// contrast and bound; nothing is estimated here.
(() => {
  "use strict";
  const place = document.getElementById("slide");
  const source = document.getElementById("data-bounds");
  if (!place || !source) return;
  const data = JSON.parse(source.textContent);
  const signs = JSON.parse(place.dataset.signs);
  const [unit, range, said] = ["slide-unit", "slide-size", "slide-said"].map((id) => document.getElementById(id));
  const units = [...new Set(data.grid.map((each) => each.unit))];
  const declared = data.grid.findIndex((each) => each.declared);
  const word = (letter) => (letter === "-" ? null : data.verdicts[letter.charCodeAt(0) - 97]);
  const of = (name, kind) => [...document.querySelectorAll(`#${name} td[data-of="${kind}"]`)];
  const cells = of("contrasts", "verdict");
  const told = of("contrasts", "told");
  const kept = told.map((cell) => [...cell.childNodes].map((node) => node.cloneNode(true)));
  const notes = ["contrasts"].map((id) => document.querySelector(`#${id} h2`)).filter(Boolean).map((head) => {
    const note = document.createElement("p");
    note.className = "asif";
    note.hidden = true;
    head.after(note);
    return note;
  });

  const counted = (rows) => {
    const out = new Map();
    for (const verdict of data.verdicts) {
      const n = rows.filter((each) => each === verdict).length;
      if (n) out.set(verdict, n);
    }
    return out;
  };
  const inUnit = () => data.grid.map((each, i) => [each, i]).filter(([each]) => each.unit === unit.value);

  const show = (index) => {
    const held = data.grid[index];
    const now = [...held.cells].map(word);
    const parts = data.outcomes.map((name, o) => {
      const rows = now.filter((verdict, i) => verdict && data.rows[i][1] === o && data.rows[i][2]);
      const counts = [...counted(rows)].map(([verdict, n]) => `${n} ${verdict}`);
      return `${name}: ${counts.join(", ") || "has no such unit"}`;
    });
    const state = held.declared ? "as declared" : "exploratory, not declared";
    said.textContent = `${held.words} (${state}). ${parts.join(". ")}.`;
    range.setAttribute("aria-valuetext", held.words);
    cells.forEach((cell, i) => { cell.textContent = now[i] ?? "no such unit"; });
    // One row of the short table a metric, one cell an outcome; its order is that of the first rows of the data.
    told.forEach((cell, at) => {
      if (held.declared) {
        cell.replaceChildren(...kept[at].map((node) => node.cloneNode(true)));
        return;
      }
      const across = told.length / data.metrics.length;
      const [metric, outcome] = [Math.floor(at / across), at % across];
      const rows = now.filter((verdict, i) => verdict && data.rows[i][0] === metric && data.rows[i][1] === outcome);
      cell.replaceChildren(...[...counted(rows)].map(([verdict, n]) => {
        const [sign, css] = signs[verdict] ?? ["?", "not"];
        const span = document.createElement("span");
        span.className = `v v-${css}`;
        const mark = document.createElement("i");
        mark.textContent = sign;
        span.append(`${n} `, mark, Object.assign(document.createElement("span"), { className: "hush", textContent: ` ${verdict}` }));
        return span;
      }));
    });
    for (const note of notes) {
      note.hidden = held.declared;
      note.textContent = `The tables here show the verdicts as if ${held.words} had been declared: exploratory. The figure and the answer above keep the declared size.`;
    }
  };
  const choose = () => {
    const mine = inUnit();
    range.max = String(mine.length - 1);
    const at = mine.findIndex(([each]) => each.declared);
    range.value = String(at < 0 ? Math.floor(mine.length / 2) : at);
    show(mine[Number(range.value)][1]);
  };
  for (const name of units) unit.append(new Option(name, name));
  unit.value = data.grid[declared]?.unit ?? units[0];
  unit.addEventListener("change", choose);
  range.addEventListener("input", () => show(inUnit()[Number(range.value)][1]));
  const back = document.createElement("button");
  back.type = "button";
  back.textContent = "Back to the declared size";
  back.addEventListener("click", () => {
    unit.value = data.grid[declared].unit;
    choose();
  });
  said.before(back);
  place.hidden = false;
  choose();
})();
