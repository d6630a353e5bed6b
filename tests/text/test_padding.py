"""Rows that were filled up to one length: padding is no text, and the end of a text is no padding."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made import tiny_moe

import moeaudit as ma
from moeaudit.errors import InputError
from moeaudit.text import tokenize
from moeaudit.text.padding import Padding

PAD, EOS = Padding(frozenset({0})), Padding(frozenset({2}), frozenset({1, 2}))


def rows(*lengths: int) -> list[np.ndarray]:
    return [np.random.default_rng(n).integers(5, 60, n) for n in lengths]


def filled(row, to, pad, left=False):
    fill = np.full(to - len(row), pad)
    return np.concatenate([fill, row] if left else [row, fill])


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("lengths", [(4, 9, 12), (11, 12), (3,)])
def test_a_padded_batch_is_its_rows(lengths, left):
    plain = rows(*lengths)
    to = max(*lengths, 8)
    padded = [filled(row, to, 0, left) for row in plain]
    found = tokenize(padded, padding=PAD)
    assert found.hash == tokenize(plain).hash
    count = sum(to - n for n in lengths)
    assert found.notes[0].startswith(f"{count} padding tokens (id 0) at the ends of ")


def test_of_a_mark_that_fills_one_stays():
    plain = [np.append(row, 2) for row in rows(4, 7)]
    padded = [filled(row, 10, 2) for row in plain]
    assert tokenize(padded, padding=EOS).hash == tokenize(plain).hash


@pytest.mark.parametrize(
    ("given", "padding"),
    [
        (lambda: rows(4, 7), PAD),
        (lambda: [np.append(row, 2) for row in (rows(4)[0], rows(5)[0][:4])], EOS),
        (lambda: [np.append(rows(4)[0], 2), rows(5)[0]], EOS),
        (lambda: [np.array([5, 0, 0, 7, 8])], PAD),
        (lambda: [np.array([5, 6, 0]), np.array([7, 8, 9, 5])], PAD),
        (lambda: [np.array([5, 6, 0, 0])], Padding()),
    ],
    ids=["none", "each ends", "one ends", "inside", "one alone", "no padding known"],
)
def test_what_is_no_padding_stays(given, padding):
    found = tokenize(given(), padding=padding)
    assert found.hash == tokenize(given()).hash and not found.notes


def test_rows_of_nothing_but_padding_are_left_out_and_counted():
    found = tokenize([np.zeros(6, int), filled(rows(4)[0], 6, 0)], padding=PAD)
    assert found.n_documents == 1 and found.n_dropped == 1
    assert any("1 document left out" in note for note in found.notes)


def test_padding_is_what_tokenizer_and_configuration_say():
    config = SimpleNamespace(
        get_text_config=lambda: SimpleNamespace(pad_token_id=3, eos_token_id=[4, 5])
    )
    model = SimpleNamespace(
        tokenizer=SimpleNamespace(pad_token_id=7, eos_token_id=None, bos_token_id=1),
        hf=SimpleNamespace(config=config),
    )
    assert Padding.of(model) == Padding(frozenset({3, 7}), frozenset({1, 4, 5}))
    bare = SimpleNamespace(tokenizer=None, hf=SimpleNamespace(config=None))
    assert Padding.of(bare) == Padding()


def test_every_table_is_of_the_rows_alone():
    built = tiny_moe.build("olmoe")
    built.config.pad_token_id = 0
    model = ma.load(built)
    plain = [torch.as_tensor(tiny_moe.ids(n, seed=n)) for n in (5, 9)]
    plain = [torch.where(row < 5, 5, row) for row in plain]
    padded = [torch.as_tensor(filled(row.numpy(), 9, 0)) for row in plain]
    want, got = ma.capture(model, plain), ma.capture(model, padded)
    assert want.tokens.equals(got.tokens) and want.routing.equals(got.routing)
    assert "4 padding tokens (id 0)" in got.facts.notes[0]
    assert ma.ablate(model, plain)["kl"].equals(ma.ablate(model, padded)["kl"])


def test_chunks_that_hold_padding_are_refused():
    built = tiny_moe.build("olmoe")
    built.config.pad_token_id = 0
    model = ma.load(built)
    with pytest.raises(InputError, match="ends with 3 padding tokens"):
        ma.capture(model, tokenize([filled(rows(4)[0], 7, 0)]))
