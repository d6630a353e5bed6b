// Interactive twins of the figures, on demand. The page is complete without this script.
(() => {
  "use strict";
  const root = document.documentElement;
  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const shown = new Map();
  let library = null;

  // The plotting library is kept compressed in the page and unpacked when first asked for.
  // Only code with the hash named in the page's policy can run.
  const load = () => {
    library ??= (async () => {
      const packed = document.getElementById("plotly-gz").textContent.trim();
      const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      const script = document.createElement("script");
      script.textContent = await new Response(stream).text();
      document.head.append(script);
      if (!window.Plotly) throw new Error("this browser did not run the plotting library");
      return window.Plotly;
    })();
    return library;
  };

  const themed = (layout) => {
    const out = structuredClone(layout);
    const ink = css("--ink");
    const rule = css("--rule");
    out.font = { ...out.font, color: ink };
    for (const key of Object.keys(out)) {
      if (/^[xy]axis/.test(key)) {
        out[key] = { ...out[key], gridcolor: rule, zerolinecolor: css("--muted"), linecolor: rule };
      }
    }
    out.modebar = { bgcolor: "rgba(0,0,0,0)", color: css("--muted"), activecolor: ink };
    if (out.updatemenus) {
      out.updatemenus = out.updatemenus.map((menu) => ({
        ...menu, bgcolor: css("--paper"), bordercolor: rule, font: { color: ink },
      }));
    }
    return out;
  };

  // On a phone panels stand one under the other, keys wrap, and a long row of metrics is moved along, four at a time.
  const folded = (words, most) =>
    String(words).split(" ").reduce((lines, word) => {
      const last = lines[lines.length - 1];
      if (last !== undefined && (last + word).replace(/<[^>]*>/g, "").length < most) lines[lines.length - 1] = `${last} ${word}`;
      else lines.push(word);
      return lines;
    }, []).join("<br>");
  const stacked = (layout, entries, colours) => {
    const out = structuredClone(layout);
    const axes = Object.keys(out).filter((key) => /^xaxis\d*$/.test(key));
    const beside = axes.filter((key) => (out[key].domain ?? [0, 1])[0] > 0);
    const titles = (out.annotations ?? []).filter((each) => each.xref === "paper" && each.name !== "key");
    out.margin = { ...out.margin, l: 56, r: 12 };
    out.dragmode = false;
    if (beside.length) {
      const n = axes.length;
      const gap = 0.34 / n;
      const height = (1 - gap * (n - 1)) / n;
      axes.forEach((key, i) => {
        const other = key.replace("x", "y");
        const bottom = 1 - (i + 1) * height - i * gap;
        out[key] = { ...out[key], domain: [0, 1] };
        out[other] = { ...out[other], domain: [Math.max(0, bottom), bottom + height], showticklabels: true };
        delete out[other].matches;
        if (titles[i]) Object.assign(titles[i], { x: 0, xanchor: "left", y: bottom + height, yanchor: "bottom", text: folded(titles[i].text, 40) });
      });
      out.height = Math.max(out.height ?? 0, 90 + 250 * n);
    }
    for (const key of axes) {
      const text = out[key].title?.text;
      if (text) out[key].title = { ...out[key].title, text: folded(text, 38) };
      const places = out[key].tickvals?.length ?? 0;
      if (places > 6 && !beside.length && out[key].range?.[0] === -0.5) {
        out[key].range = [-0.5, 3.5];
        out.dragmode = "pan";
      }
    }
    for (const each of out.annotations ?? []) {
      if (each.name !== "key") continue;
      each.text = folded(each.text.replace(/ {3}/g, "<br>"), 1000);
      out.margin.t = Math.max(out.margin.t ?? 0, 60 + 19 * each.text.split("<br>").length);
    }
    // The key goes to the very bottom, under titles of axes and bars of colour, which get room.
    const below = 70 + (colours ? 110 : 0) + 30 * entries;
    out.legend = { ...out.legend, orientation: "h", x: 0, xanchor: "left", y: 0, yanchor: "bottom", yref: "container" };
    out.height = (out.height ?? 450) + below - (out.margin.b ?? 60);
    out.margin.b = below;
    return out;
  };

  const draw = async (key, target) => {
    const spec = JSON.parse(document.getElementById(`plot-${key}`).textContent);
    const plotly = await load();
    const narrow = innerWidth <= 640;
    const ink = css("--ink");
    const across = { orientation: "h", x: 0.5, xanchor: "center", y: -0.22, yanchor: "top", len: 0.9 };
    const heat = spec.data.some((trace) => trace.type === "heatmap"); // its colours are the same in the dark
    const colours = spec.data.some((trace) => trace.colorbar || trace.marker?.colorbar);
    const named = [...spec.data, ...(spec.layout.shapes ?? [])].filter((each) =>
      each.type === "path" || each.type === "rect" ? each.showlegend : each.showlegend !== false && each.visible !== false && !each.colorbar);
    const entries = spec.layout.showlegend === false ? 0 : new Set(named.map((each) => each.legendgroup ?? each.name)).size;
    for (const trace of spec.data) {
      // Black and near black are drawn in the page's ink, which is light where paper is dark.
      for (const place of [trace.marker, trace.marker?.line]) {
        if (!heat && place && (place.color === "#000000" || place.color === "#3f1f73")) place.color = ink;
      }
      if (narrow && trace.colorbar) trace.colorbar = { ...trace.colorbar, ...across };
      if (narrow && trace.marker?.colorbar) trace.marker.colorbar = { ...trace.marker.colorbar, ...across };
    }
    const layout = themed(narrow ? stacked(spec.layout, entries, colours) : spec.layout);
    await plotly.react(target, spec.data, layout, {
      displaylogo: false,
      displayModeBar: narrow ? false : undefined,
      responsive: true,
      modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "resetScale2d"]],
    });
    if (layout.dragmode === "pan" && narrow && !target.querySelector(".hint")) {
      const hint = document.createElement("p");
      hint.className = "caption hint";
      hint.textContent = "Drag sideways for the other metrics.";
      target.prepend(hint);
    }
    shown.set(key, target);
  };

  for (const button of document.querySelectorAll("button[data-plot]")) {
    const target = document.getElementById(`live-${button.dataset.plot}`);
    const still = target.previousElementSibling;
    button.hidden = false;
    button.addEventListener("click", async () => {
      const open = button.getAttribute("aria-pressed") === "true";
      try {
        if (!open) {
          button.textContent = "Loading\u2026";
          target.hidden = false;
          await draw(button.dataset.plot, target);
        }
        target.hidden = open;
        still.hidden = !open;
        button.setAttribute("aria-pressed", String(!open));
        button.textContent = open ? "Explore" : "Show the drawing";
      } catch (error) {
        target.hidden = true;
        button.textContent = `Not available here: ${error.message}`;
        button.disabled = true;
      }
    });
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const [key, target] of shown) if (!target.hidden) draw(key, target);
  });
  addEventListener("beforeprint", () => {
    for (const fold of document.querySelectorAll("details:not([data-long])")) fold.open = true;
  });
})();
