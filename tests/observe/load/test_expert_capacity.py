"""Capacity and drops, counted by hand."""

from __future__ import annotations

import pytest
from made import routing_tables as tables

import moeaudit as ma
from moeaudit.errors import InputError


def trace(choices, documents=None, experts=4):
    documents = documents or [0] * len(choices)
    places = [documents[:n].count(documents[n]) for n in range(len(choices))]
    tokens = [(d, "ab"[d % 2], p, 1, 1) for d, p in zip(documents, places)]
    routing = [
        (d, p, 0, rank, expert, 0.5, 1.0, 0.1)
        for d, p, chosen in zip(documents, places, choices)
        for rank, expert in enumerate(chosen)
    ]
    return tables.trace_of(tokens, routing, experts)


# Four tokens, top-2, four experts: at factor 1 each expert takes 2 slots. Expert 0 is asked for 4 times, 1 three
# times, 2 once.
CHOICES = [(0, 1), (0, 1), (1, 0), (2, 0)]


def test_by_hand_first_choices_first():
    row = ma.expert_capacity(trace(CHOICES), 1.0).iloc[0]
    # Expert 0: first choices of tokens 0, 1 are kept, the second choices of 2, 3 go. Expert 1: the first choice of
    # token 2 and the second of token 0 are kept, that of token 1 goes.
    assert row["capacity"] == 2 and row["slots"] == 8
    assert row["dropped"] == pytest.approx(3 / 8)
    assert row["tokens_hit"] == pytest.approx(3 / 4) and row["tokens_lost"] == 0
    assert row["full"] == 2 and row["unused"] == pytest.approx(1 - 5 / 8)


def test_by_hand_token_by_token():
    row = ma.expert_capacity(trace(CHOICES), 1.0, order="position").iloc[0]
    # Token 2 comes after both experts are full and loses both of its slots.
    assert row["dropped"] == pytest.approx(3 / 8)
    assert row["tokens_hit"] == pytest.approx(2 / 4) and row["tokens_lost"] == pytest.approx(1 / 4)


def test_enough_room_drops_nothing_and_batches_have_rooms_of_their_own():
    assert ma.expert_capacity(trace(CHOICES), 2.0)["dropped"][0] == 0
    split = ma.expert_capacity(trace(CHOICES, documents=[0, 0, 1, 1]), 1.0, micro=1).iloc[0]
    # Two tokens a batch: room for 1. Batch 0 asks 0, 0, 1, 1: two go. Batch 1 asks 1, 0, 2, 0: one goes.
    assert split["capacity"] == 1 and split["batches"] == 2
    assert split["dropped"] == pytest.approx(3 / 8)


def test_what_cannot_be():
    for factor in (0, -1, float("nan"), float("inf"), "1", True):
        with pytest.raises(InputError, match="factor"):
            ma.expert_capacity(trace(CHOICES), factor)
    with pytest.raises(InputError, match="order"):
        ma.expert_capacity(trace(CHOICES), 1.0, order="luck")
