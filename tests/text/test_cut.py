"""Cutting: sizes, boundaries, and that nothing but white space is lost."""

from __future__ import annotations

import random

import pytest

from moeaudit.text.making.cut import CODE, LEAST, TARGET, cut, paragraphs


def random_text(seed: int) -> str:
    draw = random.Random(seed)
    pieces = []
    for _ in range(draw.randint(1, 400)):
        pieces.append("x" * draw.choice([1, 3, 9, 40, 400]))
        pieces.append(draw.choice([" ", " ", " ", ". ", "\n", "\n\n", "\n\n\n"]))
    return "".join(pieces)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("separators", [CODE, ("\n\n",), ()], ids=["code", "paragraphs", "none"])
def test_sizes_and_content(seed, separators):
    text = random_text(seed)
    documents = cut(text, separators)
    assert "".join("".join(documents).split()) == "".join(text.split())
    assert all(len(document) <= TARGET for document in documents[:-1])
    assert len(documents[-1]) <= TARGET + LEAST


def test_cuts_at_the_coarsest_boundary_that_fits():
    text = "\n\n".join(["word " * 100] * 6)  # paragraphs of 500 characters
    documents = cut(text, target=1100, least=100)
    assert [document.count("\n\n") for document in documents] == [1, 1, 1]


def test_a_word_longer_than_a_document_is_cut():
    assert [len(document) for document in cut("y" * 4500)] == [2000, 2500]


def test_short_tail_joins_and_blank_text_gives_nothing():
    assert len(cut("a" * 2000 + "\n\n" + "b" * 500)) == 1
    assert cut(" \n\n ") == []


def test_code_keeps_its_first_indentation():
    text = "def f():\n" + "\n".join(f"    x{n} = {n}" for n in range(300))
    for document in cut(text, CODE)[1:]:
        assert document.startswith("    x")


def test_paragraphs_unwraps_lines_and_joins_compounds():
    text = "an old-\nfashioned  tale\nof two\n\n\n\nlines--\nand a dash\n"
    assert paragraphs(text) == "an old-fashioned tale of two\n\nlines-- and a dash"
