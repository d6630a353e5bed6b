"""Run the notebooks and store them with their outputs: `python notebooks/store.py [2 5 ...]`, all if none is named.

Each notebook is a pair: `N_name.py` (Jupytext's percent format, which is edited and reviewed) and `N_name.ipynb`, the
same cells with what they gave. Plotly figures are stored as pictures, so that a reader without a kernel sees them;
that takes Playwright and a Chromium (CHROMIUM names another than /usr/bin/chromium).
"""

from __future__ import annotations

import base64
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
PLOTLY = "application/vnd.plotly.v1+json"
WIDTH = 820  # of a stored picture


def sources() -> list[Path]:
    return sorted(HERE.glob("[0-9]_*.py"))


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook of a source, run from top to bottom in `folder`; raises at the first error."""
    os.environ["PLOTLY_RENDERER"] = "plotly_mimetype"  # the figure alone, without 4 MB of library
    os.environ["MOEAUDIT_PROGRESS"] = "0"  # seconds are another each time
    notebook = jupytext.read(path)
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    return notebook


def pictured(notebook: nbformat.NotebookNode) -> None:
    """Put a picture in the place of each plotly figure."""
    figures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if PLOTLY in output.get("data", {})
    ]
    if not figures:
        return
    import plotly.io as pio
    from playwright.sync_api import sync_playwright
    from plotly.offline import get_plotlyjs

    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": 600})
        page.set_content(
            f"<body style='margin:0'><script>{get_plotlyjs()}</script><div id=f></div>"
        )
        for output in figures:
            figure = pio.from_json(
                pio.json.to_json_plotly(output["data"][PLOTLY]), skip_invalid=True
            )
            figure.update_layout(width=WIDTH, paper_bgcolor="white", plot_bgcolor="white")
            page.evaluate(
                "f => Plotly.react('f', f.data, f.layout, {staticPlot: true})",
                json.loads(figure.to_json()),
            )
            shot = page.locator("#f").screenshot()
            output["data"] = {
                "image/png": base64.b64encode(shot).decode(),
                "text/plain": "A figure; run the notebook for the interactive one.",
            }
        browser.close()


def store(path: Path) -> Path:
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        notebook = executed(path, Path(folder))
    pictured(notebook)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # else another at each run
        cell.metadata.pop("execution", None)
        cell.metadata.pop("lines_to_next_cell", None)
    notebook.metadata.pop("language_info", None)
    written = path.with_suffix(".ipynb")
    nbformat.write(notebook, written)
    size, seconds = written.stat().st_size / 1000, time.perf_counter() - began
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    cores = spent.ru_utime + spent.ru_stime - before.ru_utime - before.ru_stime
    print(f"{written.name}: {seconds:.0f} s ({cores:.0f} s of one core), {size:.0f} kB", flush=True)
    return written


if __name__ == "__main__":
    asked = sys.argv[1:]
    for source in sources():
        if not asked or source.name[0] in asked:
            store(source)
