"""The pages of the API: every public name stands in exactly one of them."""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

import moeaudit as ma

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "api").glob("*.md"))
NOTHING_TO_REFUSE = {"bundled_models"}
EXAMPLE = re.compile(r"^Examples?(?::|\n-+)\n((?: {4}.*\n?)+)", re.M)
DIRECTIVE = re.compile(r"^::: (\S+)$", re.M)


@cache
def found(dotted: str) -> object:
    """The object of a dotted name: of the longest module in it, by attributes from there."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            thing: object = importlib.import_module(".".join(parts[:cut]))
            for name in parts[cut:]:
                thing = getattr(thing, name)
        except (ImportError, AttributeError):
            continue
        # A face hands on a function of its submodule's name: `moeaudit.screen` is the function.
        if len(parts) > 1 and inspect.ismodule(thing):
            handed = getattr(importlib.import_module(".".join(parts[:-1])), parts[-1])
            return handed
        return thing
    raise LookupError(dotted)


def documented() -> Counter[str]:
    return Counter(name for page in PAGES for name in DIRECTIVE.findall(page.read_text("utf-8")))


def same(a: object, b: object) -> bool:
    return inspect.unwrap(a) is inspect.unwrap(b) if callable(a) and callable(b) else a is b


@pytest.mark.parametrize("name", ma.__all__)
def test_a_public_name_stands_in_one_page(name):
    thing = getattr(ma, name)
    directives = [
        dotted
        for dotted in documented().elements()
        if dotted == f"moeaudit.{name}" or (callable(thing) and same(found(dotted), thing))
    ]
    assert len(directives) == 1, f"{name} stands {len(directives)} times in docs/api: {directives}"


@pytest.mark.parametrize("name", ma.stats.__all__)
def test_a_name_of_the_statistics_stands_in_one_page(name):
    thing = getattr(ma.stats, name)
    said = [d for d in documented() if d in (f"moeaudit.{name}", f"moeaudit.stats.{name}")]
    assert len(said) == 1 and found(said[0]) is thing


@pytest.mark.parametrize("name", ma.plot.__all__)
def test_a_figure_stands_in_one_page(name):
    assert documented()[f"moeaudit.report.plot.{name}"] == 1


def test_every_directive_is_of_something_with_a_docstring():
    assert max(documented().values()) == 1
    for dotted in documented():
        thing = found(dotted)
        assert isinstance(thing, (str, tuple)) or inspect.getdoc(thing), dotted


def test_every_public_function_says_what_it_raises():
    silent = [
        name
        for name in ma.__all__
        if inspect.isfunction(thing := inspect.unwrap(getattr(ma, name)))
        and name not in NOTHING_TO_REFUSE
        and "Raises" not in (inspect.getdoc(thing) or "")
    ]
    assert not silent


def test_examples_in_docstrings_run():
    ran = 0
    for name in ma.__all__:
        text = inspect.getdoc(inspect.unwrap(getattr(ma, name))) if name != "__version__" else ""
        for found_here in EXAMPLE.finditer(text or ""):
            exec(textwrap.dedent(found_here[1]), {"ma": ma})  # noqa: S102
            ran += 1
    assert ran >= 3
