"""The site builds without a warning, every page stands in its contents, and no built page asks the network."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = ("material", "mkdocstrings", "latex2mathml")
missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(
    bool(missing), reason=f"the site needs {', '.join(missing)}: pip install -e '.[docs]'"
)
# What a browser fetches by itself; a link that somebody may follow is none of it.
FETCHED = re.compile(
    r"<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=[\"'](?:https?:)?//"
    r"|<link\b(?![^>]*rel=[\"']canonical)[^>]*\bhref=[\"'](?:https?:)?//"
    r"|(?:@import|url\()\s*[\"']?(?:https?:)?//",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def test_every_page_is_built_and_in_the_contents(site):
    contents = (ROOT / "mkdocs.yml").read_text("utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs")
        place = name.with_suffix("") if name.stem != "index" else name.parent
        assert (site / place / "index.html").is_file(), name
        assert name.as_posix() in contents, f"{name} stands in no place of the contents"


def test_a_page_asks_nothing_of_the_network(site):
    asked = {
        page.relative_to(site).as_posix(): found[0][:120]
        for page in [*site.rglob("*.html"), *site.rglob("*.css")]
        if (found := FETCHED.search(page.read_text("utf-8")))
    }
    assert not asked
    assert FETCHED.search('<script src="https://cdn.example/x.js">')
    assert not FETCHED.search('<a href="https://example.org">')


def test_docstrings_are_rendered(site):
    page = (site / "api" / "intervene" / "index.html").read_text("utf-8")
    assert "<math" in page and 'class="arithmatex">\\' not in page
    assert page.count("<dt>") > 12 and "-------" not in page


def test_a_docstring_becomes_markdown():
    griffe = pytest.importorskip("griffe", reason="mkdocstrings brings it")
    assert griffe
    spec = importlib.util.spec_from_file_location("docstrings", ROOT / "docs/hooks/docstrings.py")
    assert spec is not None and spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    numpy = "A line.\n\nParameters\n----------\na, b\n    Text\n    of two lines.\n\nRaises InputError for it."
    google = "A line.\n\nArgs:\n    a: text,\n        goes on.\n\nReturns:\n    Columns x, y.\n\nRaises X."
    assert hook.markdown(numpy) == (
        "A line.\n\n**Parameters**\n\n`a`, `b`\n:   Text\n    of two lines.\n\nRaises InputError for it."
    )
    assert hook.markdown(google) == (
        "A line.\n\n**Parameters**\n\n`a`\n:   text,\n    goes on.\n\n**Returns**\n\nColumns x, y.\n\nRaises X."
    )
    assert hook.markdown("See docs/errors/input.md.") == "See [input](../errors/input.md)."
    with pytest.raises(ValueError, match="no such page"):
        hook.markdown("See docs/nowhere.md")
