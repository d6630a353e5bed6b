"""Routers that choose among groups first: what pruning chooses there can be exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made.architectures import BY_NAME

import moeaudit as ma
from moeaudit.errors import InputError
from moeaudit.pruning.choose import Groups, choose, tie_breaks
from moeaudit.pruning.export.groups import groups_of


def texts(first: int, count: int) -> list[np.ndarray]:
    return [np.random.default_rng(s).integers(3, 300, 9) for s in range(first, first + count)]


def grouped(name: str = "deepseek_v3", **more: Any) -> ma.Model:
    asked = {"n_group": 4, "topk_group": 2, "num_hidden_layers": 2} | more
    experts = asked.pop("experts", 16)
    names = ("num_experts", "n_routed_experts", "num_local_experts")
    return ma.load(BY_NAME[name].build(**dict.fromkeys(names, experts), **asked))


@pytest.mark.parametrize(
    ("name", "more", "least"),
    [
        ("deepseek_v3", {}, 2),  # its groups are scored by their best two
        ("deepseek_v2", {"topk_method": "group_limited_greedy"}, 2),  # three of two groups
        ("deepseek_v2", {"topk_method": "group_limited_greedy", "num_experts_per_tok": 2}, 1),
    ],
)
def test_what_is_chosen_in_groups_is_exported(name, more, least, tmp_path: Path):
    model = grouped(name, **more)
    assert groups_of(model) == Groups(4, least)
    found = ma.prune_curve(
        model, texts(0, 3), ["reap"], 0.5, calibration=texts(50, 3), draws=2, scope=("layer", "global")
    )  # fmt: skip
    kept = found.kept("reap", 0.5)
    for mine in kept.values():
        assert np.bincount([e // 4 for e in mine], minlength=4).tolist() == [2, 2, 2, 2]
    written = ma.load(ma.export_pruned(model, kept, tmp_path / "small"))
    ids = torch.from_numpy(texts(90, 1)[0])[None]
    gone = {i: [e for e in range(16) if e not in mine] for i, mine in kept.items()}
    with torch.no_grad(), ma.without_experts(model, gone):
        masked = model.hf(input_ids=ids).logits
    with torch.no_grad():
        assert float((written.hf(input_ids=ids).logits - masked).abs().max()) <= 1e-5
    assert any("4 groups" in note and "8 of 16 for 0.5" in note for note in found.notes)
    for mine in found.kept("reap", 0.5, scope="global").values():
        assert np.bincount([e // 4 for e in mine], minlength=4).min() >= least


def test_shares_that_leave_a_group_too_few_are_refused_before_any_text_is_read():
    with pytest.raises(
        InputError, match="1 in each of its 4 groups, where its router needs 2.*0.5"
    ):
        ma.prune_curve(grouped(), texts(0, 2), ["reap"], 0.25, calibration=texts(50, 2))


def test_one_expert_a_group_is_refused_in_words(tmp_path: Path):
    model = grouped(experts=8, topk_group=3)
    keep = {layer.index: [0, 2, 4, 6] for layer in model.anatomy.layers}
    with pytest.raises(
        InputError, match="cannot answer with 1 in each.*at least 2 in each group, 8"
    ):
        ma.export_pruned(model, keep, tmp_path / "a")
    assert not any(tmp_path.iterdir())


def test_groups_that_a_configuration_only_states_are_none():
    model = grouped("deepseek_v2", topk_method="greedy")
    assert groups_of(model) is None
    layers, ties = list(model.anatomy.layers), tie_breaks(model, 0)
    scores = {(x.index, e): float(e) for x in layers for e in range(16)}
    lowest = {x.index: tuple(range(8)) for x in layers}
    assert choose(layers, scores, 0.5, "layer", ties) == lowest
    each = choose(layers, scores, 0.5, "layer", ties, Groups(4, 2))
    assert set(each.values()) == {(0, 1, 4, 5, 8, 9, 12, 13)}
