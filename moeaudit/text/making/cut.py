"""Cutting long sources into documents.

Documents, not tokens, are the sampling unit of every statistic here, so a book has to become many
documents of similar size. Cuts fall at the coarsest boundary that gives pieces small enough:
paragraphs, then lines, then sentences, then words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

TARGET = 2000  # characters; about 700 tokens of the bundled vocabulary
LEAST = 1000  # a shorter last document joins the one before it

PROSE = ("\n\n", "\n", ". ", " ")
CODE = ("\n\n\n", "\n\n", "\n", " ")


def cut(
    text: str, separators: Sequence[str] = PROSE, target: int = TARGET, least: int = LEAST
) -> list[str]:
    """Cut `text` into documents of at most `target` characters (the last: `target + least`).

    Only white space at the cuts is lost: what lies between the documents is blank.
    """
    documents: list[str] = []
    current = ""
    for piece in _pieces(text, separators, target):
        if current and len(current) + len(piece) > target:
            documents.append(current)
            current = ""
        current += piece
    if documents and len(current.strip()) < least:
        documents[-1] += current
    else:
        documents.append(current)
    # Indentation of a first line is kept: it means something in code.
    stripped = [document.strip("\n").rstrip() for document in documents]
    return [document for document in stripped if document.strip()]


def _pieces(text: str, separators: Sequence[str], target: int) -> Iterator[str]:
    """Consecutive pieces, none longer than `target`, that join to `text` again."""
    if len(text) <= target:
        yield text
        return
    if not separators:
        for start in range(0, len(text), target):
            yield text[start : start + target]
        return
    separator, finer = separators[0], separators[1:]
    parts = text.split(separator)
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        yield from _pieces(part if last else part + separator, finer, target)


def paragraphs(text: str) -> str:
    """Undo hard line wrapping: one line a paragraph, an empty line between paragraphs.

    A line that ends in a single hyphen was wrapped inside a compound ("old-" "fashioned").
    """
    blocks: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.strip():
            words = line.split()
            before = blocks[-1][-1] if blocks[-1] else ""
            if before.endswith("-") and before[-2:-1].isalpha():
                blocks[-1][-1] = before + words.pop(0)
            blocks[-1].extend(words)
        elif blocks[-1]:
            blocks.append([])
    return "\n\n".join(" ".join(block) for block in blocks if block)
