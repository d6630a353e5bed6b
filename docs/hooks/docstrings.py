"""An extension of griffe: the package's docstrings become Markdown, whichever way they write their sections.

Three ways stand in the code: NumPy's (a line of dashes below the name), Google's (`Args:` and an indented block)
and plain sentences (`Raises InputError for ...`). Returns are often prose in each, which the ready-made parsers take
for lists of types. Here a section is its name in bold, parameters and raised errors are a list of definitions, and all
else stays prose.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import griffe

DOCS = Path(__file__).parents[1]
NAMED = {"Args": "Parameters", "Arguments": "Parameters", "Yields": "Returns"}
SECTIONS = "Parameters|Args|Arguments|Returns|Yields|Raises|Attributes|Notes|Example|Examples"
_UNDERLINED = re.compile(rf"^({SECTIONS})\n-{{3,}}\n", re.M)
_GOOGLE = re.compile(rf"^({SECTIONS}):\n(?=    )", re.M)
# `a, b: text` (Google), or `a, b` alone in its line above an indented text (NumPy).
_GOOGLE_ENTRY = re.compile(r"^([\w*`]+(?:, [\w*`]+)*): +(?=\S)")
_NUMPY_ENTRY = re.compile(r"^([\w*`.]+(?:, [\w*`.]+)*)\n(?= {4})")
_PAGE = re.compile(r"\bdocs/([\w/-]+\.md)(#[\w-]+)?")


class Sections(griffe.Extension):
    """Rewrites every docstring of the package once it is loaded."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(docstring: str) -> str:
    """A docstring as Markdown. Raises ValueError for a page of the docs that it names and that does not exist."""
    text = "\n".join(line.rstrip() for line in docstring.strip().splitlines())
    pieces: list[str] = []
    at, name, google = 0, "", False
    for found in sorted(
        [*_UNDERLINED.finditer(text), *_GOOGLE.finditer(text)], key=lambda f: f.start()
    ):
        pieces.append(_section(name, text[at : found.start()], google))
        at, name, google = found.end(), found[1], found.re is _GOOGLE
    pieces.append(_section(name, text[at:], google))
    return _PAGE.sub(_link, "\n\n".join(piece for piece in pieces if piece))


def _section(name: str, body: str, google: bool) -> str:
    if not name:
        return body.strip()
    rest = ""
    if google:  # the block ends where the indentation does
        end = re.search(r"\n+(?=\S)", body)
        body, rest = (body[: end.start()], body[end.end() :]) if end else (body, "")
        body = textwrap.dedent(body)
    title = f"**{NAMED.get(name, name)}**"
    if name.startswith("Example"):
        code, _, prose = textwrap.dedent(body).strip("\n").partition("\n\n")
        return "\n\n".join(
            p for p in (title, f"```python\n{code}\n```", prose.strip(), rest.strip()) if p
        )
    entries, prose = _entries(body.strip("\n"), google)
    return "\n\n".join(part for part in (title, *entries, prose.strip(), rest.strip()) if part)


def _entries(body: str, google: bool) -> tuple[list[str], str]:
    """The definitions a section begins with, and the prose behind them."""
    pattern, entries = (_GOOGLE_ENTRY if google else _NUMPY_ENTRY), []
    while found := pattern.match(body):
        after = body[found.end() :]
        end = re.search(r"\n+(?=\S)", after)
        told, body = (after[: end.start()], after[end.end() :]) if end else (after, "")
        lines = textwrap.dedent(re.sub(r"^ {4}", "", told, flags=re.M)).strip("\n")
        names = ", ".join(f"`{each.strip('`')}`" for each in found[1].split(", "))
        entries.append(f"{names}\n:   " + textwrap.indent(lines, "    ").lstrip())
    return entries, body


def _link(found: re.Match[str]) -> str:
    if not (DOCS / found[1]).is_file():
        raise ValueError(f"a docstring names docs/{found[1]}, and there is no such page.")
    anchor = found[2] or ""
    return f"[{Path(found[1]).stem.replace(chr(95), chr(32))}](../{found[1]}{anchor})"
