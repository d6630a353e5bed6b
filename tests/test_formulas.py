"""Formulas of the docs become MathML while the site is built; one that is not understood stops the build."""

from __future__ import annotations

import html
import importlib.util
import re
import types
from pathlib import Path

import pytest

pytest.importorskip(
    "latex2mathml", reason="the site's formulas need latex2mathml, of the extra docs"
)

ROOT = Path(__file__).parents[1]
FORMULA = re.compile(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\$([^$\n]+)\$|\\\((.+?)\\\)", re.S)


@pytest.fixture(scope="module")
def hook() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(
        "formulas", ROOT / "docs" / "hooks" / "formulas.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made(hook: types.ModuleType, latex: str, *, block: bool = False) -> str:
    """What the hook makes of a formula as pymdownx.arithmatex writes it."""
    left, right, tag = (r"\[", r"\]", "div") if block else (r"\(", r"\)", "span")
    text = f'<p>a <{tag} class="arithmatex">{left}{html.escape(latex)}{right}</{tag}> b</p>'
    page = types.SimpleNamespace(file=types.SimpleNamespace(src_uri="page.md"))
    return hook.on_page_content(text, page=page)


def test_every_formula_is_understood(hook):
    found = 0
    for page in (ROOT / "docs").rglob("*.md"):
        text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.S)
        for match in FORMULA.finditer(text):
            latex = next(part for part in match.groups() if part)
            assert "<math" in made(hook, latex), (page, latex)
            found += 1
    assert found > 200


def test_a_formula_is_mathml_in_its_place(hook):
    page = made(hook, r"a < b_{i} \le \sum_j c_j")
    assert page.startswith('<p>a <span class="arithmatex"><math') and page.endswith(
        "</math></span> b</p>"
    )
    assert "<msub>" in page and "\\" not in page
    assert 'display="block"' in made(hook, "x", block=True)


def test_an_unknown_command_stops_the_build(hook):
    with pytest.raises(ValueError, match=r"page.md: the formula \\unheard_x"):
        made(hook, r"\unheard_x")
