"""The notebooks run from top to bottom, their claims hold (asserts in cells), and what is stored is what is shown."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "notebooks").glob("[0-9]_*.py"))
MOST = 300_000  # bytes of a stored notebook
CELL = 200_000  # of one of its outputs
PAGE = 4_000_000  # of a run's page
PLOTLY = "application/vnd.plotly.v1+json"


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def written(data) -> int:
    return sum(len(str(value)) for value in data.values())


def test_the_notebooks_are_there():
    assert {path.stem[0] for path in SOURCES} >= set("1234567")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_source_and_stored_notebook_are_a_pair(path):
    source, stored = jupytext.read(path), nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    ours, theirs = (
        [(cell.cell_type, cell.source.rstrip()) for cell in found.cells]
        for found in (source, stored)
    )
    assert ours == theirs, f"run python notebooks/store.py {path.stem[0]}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_what_is_stored_shows_its_figures_and_is_light(path):
    place = path.with_suffix(".ipynb")
    stored = nbformat.read(place, as_version=4)
    text = place.read_text("utf-8")
    assert len(text.encode()) <= MOST
    found = outputs(stored)
    assert found and not [o for o in found if o.output_type == "error"]
    data = [output.get("data", {}) for output in found]
    assert all(written(each) <= CELL for each in data)
    assert not any(PLOTLY in each for each in data), "a reader without a kernel sees no such figure"
    drawn = sum("ma.plot." in cell.source for cell in stored.cells if cell.cell_type == "code")
    assert sum("image/png" in each for each in data) >= drawn
    assert "Warning" not in "".join(o.get("text", "") for o in found if o.output_type == "stream")
    # No place of the machine that stored it: neither any home or temporary folder nor this checkout.
    places = ("/tmp/", "/home/", "/root/", "/Users/", str(ROOT), str(Path.home()), "object at 0x")
    assert not [place for place in places if place != "/" and place in text]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_a_notebook_runs_and_its_claims_hold(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PLOTLY_RENDERER", "plotly_mimetype")
    # The package of this checkout, whatever is installed.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = jupytext.read(path)
    claims = sum(
        isinstance(node, ast.Assert)
        for cell in notebook.cells
        if cell.cell_type == "code"
        for node in ast.walk(ast.parse(cell.source))
    )
    assert claims >= 2, "a notebook asserts what it claims"
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    found = outputs(notebook)
    assert found and not [o for o in found if o.output_type == "error"]
    told = [o for o in found if o.output_type == "stream" and o.name == "stderr"]
    assert not told, told
    # Whatever is shown is light (a plotly figure counts without the library, which the page of a notebook has once).
    assert all(written(output.get("data", {})) <= CELL for output in found)
    # The pages of the real runs that the notebook made of the bundled models.
    pages = [page.stat().st_size for page in tmp_path.rglob("report.html")]
    assert len(pages) >= 3 or not path.stem.startswith("8")
    assert all(size <= PAGE for size in pages), pages


def test_only_public_names_are_used():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("moeaudit"), path.name
            if isinstance(node, ast.Import):
                assert not [a for a in node.names if a.name.startswith("moeaudit.")], path.name
