"""Outputs put in an expert's place: where they come from, and that draws do not depend on batching."""

import numpy as np
import torch
from made import budgets, tiny_moe

import moeaudit as ma
from moeaudit.causal import Resample, expert_outputs
from moeaudit.models.contract import slot_contributions
from moeaudit.models.forward import clean_pass


def test_means_are_over_all_tokens_that_chose_the_expert():
    model = tiny_moe.load("olmoe")
    docs = [tiny_moe.ids(20, seed=s) for s in range(3)]
    layer = model.anatomy.layers[1]
    collected = []
    for ids in docs:
        _, seen = clean_pass(model, [layer], torch.as_tensor(ids)[None])
        given = seen[layer.index]
        out = slot_contributions(
            layer.experts, given.hidden, given.index, torch.ones_like(given.weight)
        )
        collected.append(out[given.index == 2])
    held_out = expert_outputs(model, docs, keep=4)
    torch.testing.assert_close(
        held_out.mean(layer, 2), torch.cat(collected).mean(0), atol=1e-6, rtol=1e-4
    )
    some = held_out.some(layer, 2)
    assert len(some) == 4
    assert all(any(torch.allclose(one, all_) for all_ in torch.cat(collected)) for one in some)


def test_resampling_does_not_depend_on_how_positions_are_batched(monkeypatch):
    model, ids = tiny_moe.load("olmoe"), tiny_moe.ids(12)
    held_out = expert_outputs(model, [tiny_moe.ids(40, seed=7 + s) for s in range(4)])
    whole = ma.ablate(model, [ids], Resample(held_out))
    other = ma.ablate(model, [ids], Resample(held_out, seed=1))
    budgets.use(monkeypatch, residuals=1)
    pieces = ma.ablate(model, [ids], Resample(held_out))
    np.testing.assert_allclose(whole.delta_nll, pieces.delta_nll, atol=1e-5)
    assert (whole.delta_nll - other.delta_nll).abs().max() > 1e-3
