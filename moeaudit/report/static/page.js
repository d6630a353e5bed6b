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

  const draw = async (key, target) => {
    const spec = JSON.parse(document.getElementById(`plot-${key}`).textContent);
    const plotly = await load();
    await plotly.react(target, spec.data, themed(spec.layout), {
      displaylogo: false,
      responsive: true,
      modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "resetScale2d"]],
    });
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
    for (const [key, target] of shown) draw(key, target);
  });
  addEventListener("beforeprint", () => {
    for (const fold of document.querySelectorAll("details:not([data-long])")) fold.open = true;
  });
})();
