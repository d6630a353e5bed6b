"""Tokenising: chunks join to the document again, nothing is dropped in silence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moeaudit.errors import InputError
from moeaudit.text import Corpus, Document, documents, tokenize


class Letters:
    """One token a character, led by token 0."""

    def __call__(self, texts, verbose=True):
        assert verbose is False
        return {"input_ids": [[0, *(ord(c) for c in text)] for text in texts]}


def rows(*lengths, seed=0):
    draw = np.random.default_rng(seed)
    return [draw.integers(0, 50, size=n) for n in lengths]


@pytest.mark.parametrize("max_length", [3, 4, 7, 64])
@pytest.mark.parametrize("min_tokens", [2])
def test_chunks_join_to_the_document(max_length, min_tokens):
    given = rows(*range(2, 40))
    result = tokenize(given, max_length=max_length, min_tokens=min_tokens)
    for number, ids in enumerate(given):
        chunks = [chunk for chunk in result.chunks if chunk.document == number]
        assert np.concatenate([chunk.ids for chunk in chunks]).tolist() == ids.tolist()
        position = 0
        for chunk in chunks:
            assert chunk.start == position
            assert min_tokens <= len(chunk.ids) <= max_length
            position += len(chunk.ids)
    assert result.n_documents == len(given)
    assert result.n_tokens == sum(len(ids) for ids in given)
    assert result.n_targets == result.n_tokens - len(result.chunks)


def test_only_the_last_cut_moves():
    (ids,) = rows(21)
    result = tokenize([ids], max_length=10, min_tokens=4)
    assert [len(chunk.ids) for chunk in result.chunks] == [10, 7, 4]
    (note,) = result.notes
    assert "1 document longer than 10 tokens cut into 3 chunks" in note


@pytest.mark.parametrize(
    "convert",
    [
        lambda row: torch.tensor(row),
        lambda row: torch.tensor(row, dtype=torch.int32),
        lambda row: row.astype(np.uint16),
        lambda row: row.tolist(),
        lambda row: tuple(row.tolist()),
    ],
    ids=["int64", "int32", "uint16", "list", "tuple"],
)
def test_kinds_of_token_arrays(convert):
    given = rows(5, 9)
    result = tokenize([convert(row) for row in given])
    assert [chunk.ids.tolist() for chunk in result.chunks] == [row.tolist() for row in given]
    assert all(chunk.ids.dtype == np.int64 for chunk in result.chunks)
    assert result.hash == tokenize(given).hash != tokenize(given[:1]).hash


def test_texts_keep_their_numbers_and_domains():
    corpus = Corpus(Document(f"text {n}", domain="ab"[n % 2]) for n in range(6))
    result = tokenize(corpus.subset([4, 1]), Letters())
    assert [(c.document, c.domain) for c in result.chunks] == [(4, "a"), (1, "b")]
    assert result.chunks[0].ids.tolist() == [0, *map(ord, "text 4")]
    assert [c.document for c in tokenize(["x", "y"], Letters()).chunks] == [0, 1]


def test_short_and_repeated_documents_are_counted_and_keep_the_others_numbers():
    result = tokenize(["ab", "", "cd", "ab"], Letters())
    assert [c.document for c in result.chunks] == [0, 2]
    assert (result.n_documents, result.n_dropped) == (2, 2)
    assert result.notes == [
        "1 document left out: fewer than 2 tokens.",
        "1 document left out: repeated token for token.",
    ]
    arrays = [np.array([1]), np.array([], dtype=np.int64), [], np.array([1, 2])]
    assert [c.document for c in tokenize(arrays).chunks] == [3]
    assert tokenize(arrays).n_dropped == 3


def test_notes_of_the_corpus_come_first():
    corpus = documents(["abc", "", "abcdefgh"])
    notes = tokenize(corpus, Letters(), max_length=4).notes
    assert "empty" in notes[0] and "cut into" in notes[1]
    assert len(corpus.notes) == 1


def test_nothing_left():
    with pytest.raises(InputError, match="No document is left to audit: 2 documents"):
        tokenize([np.array([1]), np.array([2])])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ([], "empty"),
        ("text", "A single text is"),
        (None, "not NoneType"),
        (torch.zeros(2, 5, dtype=torch.long), r"2-D array of shape \(2, 5\)"),
        (torch.zeros(5, dtype=torch.long), r"1-D array of shape \(5,\)"),
        ([torch.zeros(2, 5, dtype=torch.long)], r"Document 0 has shape \(2, 5\)"),
        ([torch.tensor(3)], r"Document 0 has shape \(\)"),
        ([torch.zeros(5)], "float32 values"),
        ([torch.zeros(5, dtype=torch.bfloat16)], "Document 0"),
        ([torch.zeros(5, dtype=torch.bool)], "bool values"),
        ([[1, 2], [1, [2, 3]]], "Document 1"),
        ([[0.5, 1.0]], "float64 values"),
        ([["the", "cat"]], "values; token ids are integers"),
        ([{"input_ids": [1]}], "Document 0 is dict"),
        ([3, 4], "Document 0 is int"),
        ([[1, 2**70]], "Document 0"),
        (["ab", torch.tensor([1, 2])], "Item 1 of the list is Tensor"),
        ([[1, 2], "ab"], "Document 1"),
        ([[3, -1]], "token id -1 at position 1"),
    ],
)
def test_bad_sources(source, words):
    with pytest.raises(InputError, match=words):
        tokenize(source, Letters())


def test_ids_outside_the_vocabulary():
    assert tokenize([[0, 49]], vocabulary=50).n_tokens == 2
    with pytest.raises(InputError, match="Document 1 holds token id 50 at position 2.*0 to 49"):
        tokenize([[0, 1], [2, 3, 50]], vocabulary=50)


def test_texts_without_a_tokenizer():
    with pytest.raises(InputError, match="need a tokenizer"):
        tokenize(["a"])


def test_two_documents_of_one_number():
    twice = [Document("a", index=3), Document("b", index=3)]
    with pytest.raises(InputError, match="same index"):
        tokenize(twice, Letters())


@pytest.mark.parametrize(("max_length", "min_tokens"), [(2, 2), (5, 1), (6, 4)])
def test_impossible_lengths(max_length, min_tokens):
    with pytest.raises(InputError, match="max_length"):
        tokenize([[1, 2]], max_length=max_length, min_tokens=min_tokens)
