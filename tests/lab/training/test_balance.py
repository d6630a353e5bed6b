from __future__ import annotations

import pytest
import torch
from transformers.models.olmoe.modeling_olmoe import load_balancing_loss_func

from moeaudit.lab.training.balance import load_balance, router_z


def two_domains():
    """4 experts, top-1: domain A uses 0 and 1 evenly and surely, domain B uses 2 and 3."""
    index = torch.arange(4).repeat_interleave(8)[:, None]
    logits = torch.full((32, 4), -50.0).scatter_(1, index, 50.0)
    return logits, index


def test_scope_decides_the_price_of_specialisation():
    logits, index = two_domains()
    halves = [load_balance(logits[s], index[s]).item() for s in (slice(0, 16), slice(16, 32))]
    assert sum(halves) / 2 == pytest.approx(2.0)  # each domain alone is unbalanced
    assert load_balance(logits, index).item() == pytest.approx(1.0)  # the mix is balanced


def test_collapse_costs_experts_over_k():
    logits = torch.full((10, 8), -50.0)
    logits[:, :2] = 0.0
    index = torch.tensor([[0, 1]]).expand(10, 2)
    assert load_balance(logits, index).item() == pytest.approx(4.0)


def test_even_load_costs_one_where_transformers_says_k():
    torch.manual_seed(0)
    logits = torch.randn(20_000, 8)
    index = logits.topk(2).indices
    assert load_balance(logits, index).item() == pytest.approx(1.0, abs=0.01)
    assert load_balancing_loss_func((logits,), 8, 2).item() == pytest.approx(2.0, abs=0.02)


def test_gradient_lowers_the_busy_expert():
    logits = torch.zeros(6, 3, requires_grad=True)
    load_balance(logits, torch.tensor([[0], [0], [0], [0], [1], [2]])).backward()
    assert logits.grad[:, 0].min() > 0 > logits.grad[:, 1].max()


def test_router_z():
    logits = torch.log(torch.tensor([[1.0, 3.0], [0.5, 0.5]]))
    assert router_z(logits).item() == pytest.approx(torch.tensor(4.0).log().item() ** 2 / 2)
