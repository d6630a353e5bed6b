"""Texts as arrays and columns are texts; what a tokenizer or a chat gives is told what to do with it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moeaudit.errors import InputError
from moeaudit.text import tokenize


class Letters:
    """One id a letter, as a tokenizer of transformers is called."""

    def __call__(self, texts, **_):
        return {"input_ids": [[ord(c) - 96 for c in text] for text in texts]}


TEXTS = ["abcd", "efg"]


@pytest.mark.parametrize(
    "given",
    [TEXTS, np.array(TEXTS), np.array(TEXTS, dtype=object), pd.Series(TEXTS), pd.Index(TEXTS)],
)
def test_texts_in_any_row(given):
    found = tokenize(given, Letters())
    assert [chunk.ids.tolist() for chunk in found.chunks] == [[1, 2, 3, 4], [5, 6, 7]]


BAD = {
    "an encoding": ({"input_ids": [[1, 2]], "attention_mask": [[1, 1]]}, r"dict\. .*encoded\['input_ids'\]"),
    "a conversation": ([[{"role": "user", "content": "hi"}]], r"a conversation \(role, content\).*apply_chat_template"),
    "a batch": (np.ones((2, 3), dtype=np.int64), r"2-D array of shape \(2, 3\)"),
    "one row of ids": (np.arange(5), r"1-D array of shape \(5,\)"),
    "nothing": (np.array([], dtype=object), "1-D array"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(BAD))
def test_what_is_no_list_of_texts_says_what_to_do(case):
    given, words = BAD[case]
    with pytest.raises(InputError, match=words):
        tokenize(given, Letters())
