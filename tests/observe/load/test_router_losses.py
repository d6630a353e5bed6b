"""Switch loss, router z-loss, balance: hand-computed values, and how transformers' own number differs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from made.tiny_moe import ids, load

import moeaudit as ma
from moeaudit.observe import router_z_loss, switch_loss
from moeaudit.observe.load.losses import balance_loss


def test_by_hand():
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.2, 0.7, 0.1]]))  # log partition 0
    assert router_z_loss(logits) == pytest.approx(0.0, abs=1e-12)
    assert router_z_loss(logits + 2) == pytest.approx(4.0)
    # first choices 0 and 1: f = (1/2, 1/2, 0), P = (.35, .475, .175)
    assert switch_loss(logits) == pytest.approx(3 * (0.5 * 0.35 + 0.5 * 0.475))
    # slots 0, 1 and 1, 0: the same f
    assert balance_loss(logits, np.array([[0, 1], [1, 0]])) == pytest.approx(3 * 0.4125)
    assert balance_loss(logits, np.array([[0, 2], [1, 0]])) == pytest.approx(
        3 * (0.5 * 0.35 + 0.25 * 0.475 + 0.25 * 0.175)
    )


def test_large_logits_do_not_overflow():
    assert router_z_loss(np.full((3, 4), 2000.0)) == pytest.approx((2000 + math.log(4)) ** 2)


def test_an_even_router_is_1_here_and_k_in_transformers():
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 8)).astype(np.float32)
    index = np.argsort(-logits, axis=1)[:, :2]
    assert balance_loss(logits, index) == pytest.approx(1.0, abs=0.01)
    theirs = load_balancing_loss_func((torch.from_numpy(logits),), 8, 2)
    assert float(theirs) == pytest.approx(2.0, abs=0.02)


def test_of_a_model():
    model = load("olmoe")
    table = ma.router_losses(model, [ids(20), ids(30, 1)])
    assert table["layer"].tolist() == [0, 1, 2] and table["tokens"].tolist() == [19 + 29] * 3
    every, index = [], []
    for text in (ids(20), ids(30, 1)):
        seen = []
        gate = model.hf.model.layers[1].mlp.gate
        handle = gate.register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out))
        with torch.no_grad():
            model.hf(input_ids=torch.from_numpy(text)[None])
        handle.remove()
        every.append(seen[0][0][:-1].numpy())
        index.append(seen[0][2][:-1].numpy())
    row = table.set_index("layer").loc[1]
    assert row["global"] == pytest.approx(
        balance_loss(np.concatenate(every), np.concatenate(index)), rel=1e-5
    )
    assert row["sequence"] == pytest.approx(
        np.mean([balance_loss(a, b) for a, b in zip(every, index)]), rel=1e-5
    )
    assert row["z"] == pytest.approx(router_z_loss(np.concatenate(every)), rel=1e-5)
    assert row["switch"] == pytest.approx(switch_loss(np.concatenate(every)), rel=1e-5)
