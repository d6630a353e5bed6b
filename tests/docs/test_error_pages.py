"""Every public error has its page, names it, and the page prints what the program says."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import traceback
from pathlib import Path

import pytest

from moeaudit import errors

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "errors").glob("*.md"))
KINDS = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, errors.MoeAuditError)
]
BLOCK = re.compile(r"^```pycon\n(.*?)^```", re.M | re.S)
RAISED = "Traceback (most recent call last):\n  ...\n"


def wanted(text: str) -> re.Pattern[str]:
    """What is printed, wherever its lines are broken; `...` stands for what another machine says otherwise."""
    parts = [re.escape(" ".join(part.split())) for part in text.split("...")]
    return re.compile(".*".join(part.replace(r"\ ", " ") for part in parts))


def said(error: Exception) -> str:
    return " ".join(f"{type(error).__module__}.{type(error).__qualname__}: {error}".split())


def source(block: str) -> tuple[str, str | None]:
    """The Python of a block, and the error it ends in."""
    code, _, message = block.partition(RAISED)
    lines = [line[4:] for line in code.splitlines()]
    assert all(line[:4].rstrip() in (">>>", "...") for line in code.splitlines()), code
    return "\n".join(lines) + "\n", message or None


def run(page: Path, namespace: dict[str, object]) -> int:
    """Run a page's blocks in order. How many ended in an error, each in the one that is printed."""
    raised = 0
    for found in BLOCK.finditer(page.read_text("utf-8")):
        code, message = source(found[1])
        ast.parse(code)
        if message is None:
            exec(code, namespace)  # noqa: S102
            continue
        with pytest.raises(errors.MoeAuditError) as error:
            exec(code, namespace)  # noqa: S102
        assert wanted(message).fullmatch(said(error.value)), (message, said(error.value))
        named = next(k for k in type(error.value).__mro__ if "page" in vars(k))
        assert ROOT / named.page == page, (page.name, said(error.value))
        heading = re.findall(r"^## (.+)$", found.string[: found.start()], re.M)[-1]
        assert error.value.where == f"{named.page}#{errors.slug(heading)}", said(error.value)
        raised += 1
    return raised


@pytest.mark.parametrize("page", [p for p in PAGES if p.stem != "index"], ids=lambda p: p.stem)
def test_a_page_prints_what_the_program_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(page, {"__name__": "__main__"}) >= (1 if page.stem == "out-of-memory" else 3)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_has_its_page(kind):
    page = ROOT / kind.page
    assert page in PAGES
    assert "page" in vars(kind), f"{kind.__name__} names no page of its own"
    title = "Errors" if kind is errors.MoeAuditError else kind.__name__
    assert page.read_text("utf-8").startswith(f"# {title}\n")
    overview = (ROOT / "docs/errors/index.md").read_text("utf-8")
    assert kind is errors.MoeAuditError or f"[{kind.__name__}]({page.name})" in overview


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_heading_that_an_error_names_is_on_its_page(kind):
    headings = re.findall(r"^## (.+)$", (ROOT / kind.page).read_text("utf-8"), re.M)
    assert set(kind.headings) <= set(headings)


def test_without_the_documentation_an_address_is_named(tmp_path, monkeypatch):
    from importlib import metadata

    site = "https://example.org/docs/"
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "moeaudit" / "errors.py"))
    for known, want in (
        (
            [f"Source, x, Documentation, {site}", f"Documentation, {site}"],
            f"{site}errors/run.md#not-finished",
        ),
        (None, "docs/errors/run.md#not-finished"),
    ):
        told = type("Told", (), {"get_all": lambda self, name, known=known: known})()
        monkeypatch.setattr(metadata, "metadata", lambda name, told=told: told)
        errors._opened.cache_clear()
        assert errors.RunError("The run in x was not finished.").where == want
    errors._opened.cache_clear()


def test_every_page_belongs_to_an_error():
    assert {ROOT / kind.page for kind in KINDS} == set(PAGES)


def test_a_traceback_names_the_page_and_the_message_does_not():
    try:
        raise errors.ContractError("What was wrong.")
    except errors.MoeAuditError as error:
        printed = traceback.format_exc().splitlines()
        assert printed[-2:] == [
            "moeaudit.errors.ContractError: What was wrong.",
            "See docs/errors/contract.md",
        ]
        assert str(error) == "What was wrong."


def test_a_drifted_message_is_seen(tmp_path):
    page = tmp_path / "input.md"
    page.write_text(
        textwrap.dedent(
            """\
            ```pycon
            >>> from moeaudit.errors import InputError
            >>> raise InputError("one thing")
            Traceback (most recent call last):
              ...
            moeaudit.errors.InputError: another
            thing
            ```
            """
        )
    )
    with pytest.raises(AssertionError, match="another"):
        run(page, {})
    assert wanted("a ... b c").fullmatch("a other b c") and not wanted("a b").fullmatch("a c")
