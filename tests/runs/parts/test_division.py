"""How a run is divided: every group in one part, and no part has much more to do than another."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from made import tiny_run

from moeaudit.causal.operators import Zero
from moeaudit.runs.parts.division import CLEAN, part_of, rows_in_forwards
from moeaudit.runs.parts.groups import groups
from moeaudit.runs.session import question
from moeaudit.text.tokens import Chunk, TokenizedCorpus


def read_of(lengths: np.ndarray) -> TokenizedCorpus:
    chunks = [Chunk(i, "a", 0, np.zeros(n, np.int64)) for i, n in enumerate(lengths.tolist())]
    return TokenizedCorpus(chunks, len(chunks), 0, 64)


@pytest.fixture(scope="module")
def settled(tiny_model):
    """A question of the tiny model, with documents of very different lengths in its place."""
    material, spec, operator = question(
        tiny_model, tiny_run.TEXTS, None, None, 8, None, 0, 1, ("hooks",)
    )
    rng = np.random.default_rng(0)
    effect, shift = read_of(rng.integers(2, 64, 45)), read_of(rng.integers(2, 64, 11))
    metric = read_of(rng.integers(2, 64, 90))
    uneven = dataclasses.replace(
        material, effect=effect, metric=metric, shift=SimpleNamespace(read=shift)
    )
    return tiny_model, operator, uneven, dataclasses.replace(spec, shard_documents=3)


def test_rows_are_counted_in_forwards(settled):
    model, _, _, spec = settled
    # two rows at each of three layers, which compute 3, 2 and 1 of three layers
    assert rows_in_forwards(model, Zero(), spec) == pytest.approx(2 * (3 + 2 + 1) / 3)


@pytest.mark.parametrize("of", [1, 2, 3, 7, 19])
def test_every_group_is_in_one_part_and_parts_are_balanced(settled, of):
    model, operator, material, spec = settled
    parts = [part_of(i, of, *settled) for i in range(1, of + 1)]
    per_token = CLEAN + rows_in_forwards(model, operator, spec)
    loads = np.zeros(of)
    loads[0] = material.metric.n_tokens
    largest = 0.0
    for name, read in (("effects", material.effect), ("shift", material.shift.read)):
        sizes = [per_token * g.n_tokens for g in groups(read, spec.shard_documents)]
        numbers = [n for part in parts for n in getattr(part, name)]
        assert sorted(numbers) == list(range(len(sizes)))
        assert {getattr(part, f"n_{name}") for part in parts} == {len(sizes)}
        loads += [sum(sizes[n] for n in getattr(part, name)) for part in parts]
        largest = max(largest, *sizes)
    # Graham's bound: the last group went to the part that had least, so none is above the mean by more than it
    assert loads.max() <= max(loads.mean() + largest, material.metric.n_tokens)
    assert all(part.effects or part.shift or part.first for part in parts)
