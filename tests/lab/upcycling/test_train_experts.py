"""Training of experts and gates: it learns, leaves the trunk bit for bit, and goes on from a checkpoint exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made import tiny_llama

import moeaudit as ma
from moeaudit.errors import InputError, ModelError, RunError
from moeaudit.lab.upcycling import Tuning, expert_distances, train_experts, upcycle

# Two domains that can be told apart and learnt: counting up and counting down.
DOCUMENTS = {
    name: [(start + sign * np.arange(60)) % tiny_llama.VOCABULARY for start in range(0, 64, 7)]
    for name, sign in (("up", 1), ("down", -1))
}
TUNING = Tuning(steps=12, rows=4, length=24, rate=5e-3, router_rate=5e-3, warmup=2)


def mixture():
    text = [ids for texts in DOCUMENTS.values() for ids in texts]
    return upcycle(tiny_llama.build(), 4, 2, [1, 2], text=text)


@pytest.mark.parametrize("low", [False, True])
def test_it_learns_and_leaves_the_trunk(low):
    model = mixture()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    curve = train_experts(model, DOCUMENTS, TUNING, low=low)
    assert curve.step.tolist() == list(range(1, 13))
    assert curve.nll.iloc[-1] < curve.nll.iloc[0] - 0.1
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {
        f"model.layers.{i}.mlp.{part}"
        for i in (1, 2)
        for part in ("experts.gate_up_proj", "experts.down_proj", "gate.weight")
    }
    assert all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
    assert not model.training


def test_near_duplicates_at_a_known_distance_stand_in_for_each_other():
    """Moved by a known step, experts are that far apart; the further, the less another does of one's work."""
    model = mixture()
    base = model.model.layers[1].mlp.experts
    draw = torch.Generator().manual_seed(0)
    step = {n: torch.randn(p.shape, generator=draw) for n, p in base.named_parameters()}
    length = sum(s.flatten(1).square().sum(1) for s in step.values()).sqrt()
    norm = sum(p[0].square().sum() for p in base.parameters()).sqrt()
    shares = []
    for far in (0.02, 0.3):
        with torch.no_grad():
            for name, p in base.named_parameters():
                p.copy_(p[0].clone() + far * norm * step[name] / length[:, None, None])
        found = expert_distances(model).query("layer == 1").distance
        # Independent steps of length `far` are sqrt(2) `far` apart.
        assert found.to_numpy() == pytest.approx(far * 2**0.5, rel=0.1)
        loaded = ma.load(model)
        read = tiny_llama.texts(3)
        removed = ma.ablate(loaded, read, ma.Zero(), layers=[1]).kl.mean()
        swapped = ma.ablate(loaded, read, ma.Swap("all"), layers=[1]).kl.mean()
        shares.append(1 - swapped / removed)
        with torch.no_grad():
            for p in base.parameters():
                p.copy_(p[0].clone().expand_as(p))
    assert shares[0] > 0.99 and shares[1] < shares[0]


def test_an_interrupted_training_goes_on_to_the_same_weights(tmp_path):
    whole = mixture()
    train_experts(whole, DOCUMENTS, TUNING)
    part = mixture()

    class Stop(Exception):
        pass

    def stop(row):
        if row["step"] == 11:
            raise Stop

    path = tmp_path / "training.pt"
    with pytest.raises(Stop):
        train_experts(part, DOCUMENTS, TUNING, checkpoint=path, progress=stop)
    again = mixture()
    curve = train_experts(again, DOCUMENTS, TUNING, checkpoint=path)
    assert len(curve) == TUNING.steps
    for (name, p), q in zip(whole.named_parameters(), again.parameters()):
        assert torch.equal(p, q), name
    with pytest.raises(RunError, match="another training"):
        train_experts(mixture(), DOCUMENTS, Tuning(steps=3, rows=4), checkpoint=path)


def test_gradients_are_those_of_the_class():
    """The loop over an unstacked tensor against transformers' own."""
    from moeaudit.lab.upcycling.tune import _experts

    model = mixture()
    experts = model.model.layers[1].mlp.experts
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(7, 32, generator=draw, requires_grad=True)
    index = torch.tensor([[0, 1], [1, 2], [0, 2], [2, 1], [0, 1], [1, 0], [2, 0]])  # 3 has no token
    weight = torch.rand(7, 2, generator=draw, requires_grad=True)
    inputs = [hidden, weight, *experts.parameters()]
    model.set_experts_implementation("eager")
    theirs = experts(hidden, index, weight)
    ours = _experts(experts, hidden, index, weight)
    assert torch.allclose(ours, theirs, atol=1e-6)
    for a, b in zip(
        torch.autograd.grad(ours.square().sum(), inputs),
        torch.autograd.grad(theirs.square().sum(), inputs),
    ):
        assert torch.allclose(a, b, atol=1e-5)


def test_what_cannot_be_trained():
    with pytest.raises(ModelError, match="no parameters that end in"):
        train_experts(tiny_llama.build(), DOCUMENTS, TUNING)
    with pytest.raises(InputError, match="cannot be shared equally"):
        train_experts(mixture(), DOCUMENTS, Tuning(steps=1, rows=3))
    with pytest.raises(InputError, match="1 or more"):
        Tuning(steps=0)
    with pytest.raises(ModelError, match="holds no fused experts"):
        expert_distances(tiny_llama.build())
