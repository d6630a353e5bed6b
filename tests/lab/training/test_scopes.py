"""The balance loss at each scope, against values worked out by hand."""

from __future__ import annotations

import pytest
import torch

from moeaudit.errors import InputError
from moeaudit.lab.recipes.sections import Balance
from moeaudit.lab.training.balance import grouped_balance, load_balance, router_entropy
from moeaudit.lab.training.mechanism import Batch
from moeaudit.lab.training.scopes import groups_of, require_pure

ROWS, LENGTH = 8, 512


def two_domains():
    """4 experts, top-1: domain A uses 0 and 1 evenly and surely, domain B uses 2 and 3."""
    token = torch.arange(ROWS * LENGTH)
    index = (token % 2 + 2 * (token >= ROWS * LENGTH // 2).long())[:, None]
    probabilities = torch.zeros(ROWS * LENGTH, 4).scatter_(1, index, 1.0)
    ids = torch.zeros(ROWS, LENGTH, dtype=torch.long)
    return probabilities, index, Batch(ids, ["a"] * 4 + ["b"] * 4, ids)


def loss(**balance):
    probabilities, index, batch = two_domains()
    group = groups_of(batch, Balance(**balance), seed=0, step=3)
    return grouped_balance(probabilities, index, group).item()


def test_scope_decides_the_price_of_specialisation():
    assert loss(scope="global") == pytest.approx(1.0)
    assert loss(scope="micro", groups=2) == pytest.approx(2.0)
    assert loss(scope="micro", groups=8) == pytest.approx(2.0)
    assert loss(scope="sequence") == pytest.approx(2.0)
    assert loss(scope="micro", groups=8, shuffled=True) == pytest.approx(1.0, abs=0.02)


def test_groups_are_of_one_domain_unless_dealt():
    _, _, batch = two_domains()
    rows = torch.arange(ROWS).repeat_interleave(LENGTH)
    for groups in (2, 4):
        group = groups_of(batch, Balance(scope="micro", groups=groups), 0, 0)
        for g in range(groups):
            assert len({batch.domain[row] for row in rows[group == g].tolist()}) == 1
    dealt = Balance(scope="micro", groups=4, shuffled=True)
    one = groups_of(batch, dealt, 0, 0)
    assert torch.bincount(one).tolist() == [ROWS * LENGTH // 4] * 4
    assert torch.equal(one, groups_of(batch, dealt, 0, 0))
    assert not torch.equal(one, groups_of(batch, dealt, 0, 1))


def test_groups_that_would_mix_domains_are_refused():
    require_pure(Balance(scope="micro", groups=8), rows=16, domains=8)
    require_pure(Balance(scope="micro", groups=4, shuffled=True), rows=16, domains=8)
    with pytest.raises(InputError, match="each group must read one domain"):
        require_pure(Balance(scope="micro", groups=4), rows=16, domains=8)


def test_one_group_is_the_global_loss_with_its_gradient():
    torch.manual_seed(0)
    logits = torch.randn(40, 6, requires_grad=True)
    index = logits.topk(2).indices
    group = torch.zeros(40, dtype=torch.long)
    ours = grouped_balance(logits.softmax(-1), index, group)
    whole = load_balance(logits, index)
    assert ours.item() == pytest.approx(whole.item(), rel=1e-6)
    one, other = (torch.autograd.grad(x, logits)[0] for x in (ours, whole))
    torch.testing.assert_close(one, other)


def test_groups_are_averaged():
    torch.manual_seed(1)
    probabilities = torch.rand(30, 5).softmax(-1)
    index = probabilities.topk(2).indices
    group = torch.tensor([0] * 10 + [1] * 20)
    apart = [load_balance(probabilities[group == g].log(), index[group == g]) for g in (0, 1)]
    found = grouped_balance(probabilities, index, group)
    assert found.item() == pytest.approx(sum(x.item() for x in apart) / 2, rel=1e-6)


def test_entropy_of_masked_probabilities_is_finite():
    p = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    assert router_entropy(p).item() == pytest.approx(torch.tensor(2.0).log().item() / 2)
