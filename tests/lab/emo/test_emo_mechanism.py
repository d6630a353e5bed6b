"""EMO in training: pools by document, sizes drawn by seed and step."""

import jaxtyping
import pytest
import torch
from made import tiny_moe

from moeaudit.errors import InputError
from moeaudit.lab.emo import Emo, pool_sizes, pools
from moeaudit.lab.training.mechanism import MECHANISMS, Batch, mechanism
from moeaudit.models.experts.pool import document_pool

CONFIG = tiny_moe.build("olmoe").config


def batch(seed=0, documents=((3, 3, 3, 5, 5, 5), (5, 5, 9, 9, 9, 9))):
    ids = torch.randint(0, 50, (2, 6), generator=torch.Generator().manual_seed(seed))
    return Batch(ids, ["a", "b"], torch.tensor(documents))


def prepared(**settings):
    made = mechanism("emo", settings)
    made.prepare(tiny_moe.build("olmoe"), CONFIG)
    return made


def test_a_token_chooses_from_its_documents_pool():
    logits = torch.randn(12, 8, generator=torch.Generator().manual_seed(1))
    given = batch()
    masked = prepared(smallest=4, largest=4).route(0, logits, given)
    flat = given.document.flatten()
    for document in (3, 5, 9):
        mine = flat == document
        pool = document_pool(logits[mine].softmax(-1), 4)
        assert ((masked[mine] > -torch.inf) == pool).all()
    inside = masked > -torch.inf
    assert (masked[inside] == logits[inside]).all() and (inside.sum(1) == 4).all()


def test_a_pool_of_all_experts_changes_nothing_and_one_of_k_leaves_one_set():
    logits = torch.randn(12, 8)
    assert (prepared(smallest=8).route(0, logits, batch()) == logits).all()
    masked = prepared(largest=3).route(0, logits, batch())
    chosen = masked.topk(3).indices.sort(-1).values
    flat = batch().document.flatten()
    assert all((chosen[flat == d] == chosen[flat == d][0]).all() for d in (3, 5, 9))


def test_sizes_are_uniform_and_belong_to_seed_step_and_document():
    document, size = pool_sizes(batch(), 3, 8, seed=0)
    assert document.tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2] and len(size) == 3
    again = pool_sizes(batch(), 3, 8, seed=0)[1]
    assert (size == again).all()
    many = torch.cat([pool_sizes(batch(step), 3, 8, seed=0)[1] for step in range(200)])
    counts = torch.bincount(many, minlength=9)
    assert counts[:3].sum() == 0 and counts[3:].min() > 70 and counts[3:].max() < 130
    other = torch.cat([pool_sizes(batch(step), 3, 8, seed=1)[1] for step in range(200)])
    assert 0.05 < (many == other).float().mean() < 0.3


def test_gradients_reach_the_logits_inside_alone():
    logits = torch.randn(12, 8, requires_grad=True)
    masked = prepared(smallest=4, largest=4).route(0, logits, batch())
    (masked.softmax(-1) * torch.randn(12, 8)).sum().backward()
    inside = masked > -torch.inf
    assert (logits.grad[~inside] == 0).all() and (logits.grad[inside] != 0).all()


def test_equal_means_are_decided_as_in_the_operator():
    even = torch.full((4, 6), 1 / 6)
    inside = pools(even, torch.zeros(4, dtype=torch.long), torch.tensor([2]))
    assert inside[0].tolist() == document_pool(even, 2).tolist() == [True, True] + [False] * 4


def test_what_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(InputError, match="Name at least 3"):
        prepared(smallest=2)
    with pytest.raises(InputError, match="smallest <= largest <= 8"):
        prepared(largest=9).route(0, torch.randn(12, 8), batch())
    with pytest.raises(InputError, match="at least 1"):
        Emo(smallest=0)
    with pytest.raises(InputError, match="a key of"):
        mechanism("emo", {"pool": 4})
    with pytest.raises(InputError, match="prepare"):
        Emo().route(0, torch.randn(12, 8), batch())


def test_the_settings_come_back():
    made = mechanism("emo", {"smallest": 4, "seed": 2})
    assert MECHANISMS["emo"] is Emo
    assert Emo.from_dict(made.to_dict()) == made


def test_balance_has_to_be_global():
    import moeaudit.lab as lab

    assert lab.recipe("olmoe-emo").mechanisms[0] == Emo()
    for scope in ("micro", "sequence", "none"):
        with pytest.raises(InputError, match="needs .balance. scope 'global'"):
            lab.recipe("olmoe-emo", balance={"scope": scope})


def test_it_trains_and_what_it_trained_is_a_plain_model(tmp_path):
    import numpy as np

    import moeaudit as ma
    import moeaudit.lab as lab

    made = lab.train(
        lab.recipe("olmoe-emo", quick=True, train={"steps": 3}), tmp_path / "emo", progress=False
    )
    plain = lab.train(
        lab.recipe("olmoe", quick=True, train={"steps": 3}), tmp_path / "plain", progress=False
    )
    model, other = ma.load(made), ma.load(plain)
    ids = np.arange(20, 60)
    effects = ma.ablate(model, [ids], ma.DocumentPool(16))
    assert (effects.delta_nll == 0).all()
    gate = model.anatomy[1].router.weight
    assert not torch.equal(
        gate, other.anatomy[1].router.weight
    )  # the masks changed what was learned
