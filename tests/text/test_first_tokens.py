"""Pieces of one size from the beginnings of documents."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from moeaudit.errors import InputError
from moeaudit.text.document import Corpus, Document
from moeaudit.text.for_model import first_tokens


def corpus(*texts):
    return Corpus([Document(text, domain="made") for text in texts])


MODEL = SimpleNamespace(
    name="made", tokenizer=lambda text: {"input_ids": [len(word) for word in text.split()]}
)


def test_the_first_tokens_of_each_document_in_order():
    docs = corpus("a bb ccc dddd", "one", "dddd a")
    assert [ids.tolist() for ids in first_tokens(MODEL, docs, 3)] == [[1, 2, 3], [4, 1]]
    assert [ids.tolist() for ids in first_tokens(MODEL, docs, 3, least=3)] == [[1, 2, 3]]


def test_a_model_without_a_tokenizer_is_refused():
    with pytest.raises(InputError, match="no tokenizer"):
        first_tokens(SimpleNamespace(name="bare", tokenizer=None), corpus("a b"), 3)
