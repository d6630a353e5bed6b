"""Mixtures answer with probabilities; training is a function of data, settings and seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from analyses.lab.calibrated_moe.classifiers.robust_training import (
    OBJECTIVES,
    Objective,
    RobustSettings,
    objective,
    predict,
    seeded,
    train,
)
from analyses.lab.calibrated_moe.classifiers.soft_moe import (
    ClassifierMoE,
    ContextTrunk,
    PixelTrunk,
    Routing,
    configurations,
)
from moeaudit.errors import InputError

SETTINGS = RobustSettings(epochs=4, batch=32, rate=1e-2, warm_up=0.25)


def build(routing: Routing = "soft", seed: int = 0) -> ClassifierMoE:
    return seeded(lambda: ClassifierMoE(PixelTrunk(6, 16), 16, 3, routing=routing), seed)


def data(n: int = 120) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(n, 6, generator=torch.Generator().manual_seed(1))
    return x, x[:, :3].argmax(1)


@pytest.mark.parametrize("routing", ["soft", "hard"])
def test_answers_are_probabilities(routing: Routing):
    model, (x, _) = build(routing), data()
    a = predict(model, 50 * x, batch=7)
    assert a.log_probs.dtype == np.float64 and a.log_probs.shape == (120, 3)
    for p in (np.exp(a.log_probs), a.routing, np.exp(a.expert_log_probs)):
        assert (p >= 0).all() and np.abs(p.sum(-1) - 1).max() < 1e-5
    mixture = (a.routing[..., None] * np.exp(a.expert_log_probs)).sum(1)
    np.testing.assert_allclose(np.exp(a.log_probs), mixture, atol=1e-6)
    assert (set(np.unique(a.routing)) == {0.0, 1.0}) == (routing == "hard")


def test_the_hard_router_learns_by_the_straight_through_rule():
    model, (x, y) = build("hard").double(), data(8)
    out = model(x.double())
    logits, each = out.router_logits, out.expert_log_probs.exp()
    loss = -out.log_probs[torch.arange(8), y].mean()
    (found,) = torch.autograd.grad(loss, logits, retain_graph=True)
    # The same rule written out: one-hot forwards, softmax backwards, in probabilities.
    again = logits.detach().requires_grad_()
    r = again.softmax(-1)
    through = out.routing + r - r.detach()
    f = (through[..., None] * each.detach()).sum(1)
    torch.testing.assert_close(f.log(), out.log_probs)
    (-f[torch.arange(8), y].log().mean()).backward()
    torch.testing.assert_close(found, again.grad)
    assert found.abs().sum() > 0
    # Only winners learn: an expert that was never chosen has no gradient.
    loss.backward()
    grad = model.experts.weight.grad
    assert grad is not None
    touched = grad.view(4, 3, -1).abs().sum((1, 2)) > 0
    assert touched.tolist() == (out.routing.sum(0) > 0).tolist()


def test_a_hopeless_winner_does_not_throw_the_router():
    model = build("hard").double()
    with torch.no_grad():
        model.experts.bias[:] = 0
        model.experts.bias[::3] = -400.0  # every expert rules out class 0 ...
        model.experts.bias[9] = 400.0  # ... but the last, which knows nothing else
    x = data(8)[0].double()
    out = model(x)
    (grad,) = torch.autograd.grad(-out.log_probs[:, 0].sum(), out.router_logits)
    assert torch.isfinite(grad).all() and grad.abs().max() <= 100.0


@pytest.mark.parametrize("routing", ["soft", "hard"])
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_training_is_a_function_of_the_seed(routing: Routing, kind: Objective):
    x, y = data()
    settings = replace(SETTINGS, objective=kind, balance=0.01)
    before = torch.random.get_rng_state()
    runs = []
    for seed in (3, 3, 4):
        model = build(routing, seed)
        history = train(model, x, y, settings, seed)
        runs.append((history, predict(model, x).log_probs))
    assert torch.equal(before, torch.random.get_rng_state())
    assert runs[0][0] == runs[1][0] and (runs[0][1] == runs[1][1]).all()
    assert runs[0][0] != runs[2][0]
    assert len(runs[0][0]) == settings.epochs


@pytest.mark.parametrize("routing", ["soft", "hard"])
def test_training_learns_the_task(routing: Routing):
    x, y = data(400)
    model = build(routing)
    train(model, x, y, replace(SETTINGS, epochs=25, balance=0.01), seed=0)
    assert (predict(model, x).log_probs.argmax(1) == y.numpy()).mean() > 0.9


def test_objectives_part_ways_after_the_warm_up_only():
    x, y = data()

    def history(kind: Objective) -> list[float]:
        return train(build(), x, y, replace(SETTINGS, objective=kind), seed=0)

    plain = history("vanilla")
    for kind in OBJECTIVES[1:]:
        robust = history(kind)
        assert robust[0] == plain[0] and robust[1] != plain[1]  # one epoch of four is plain
    never = replace(SETTINGS, objective="tilted", warm_up=1.0)
    assert train(build(), x, y, never, seed=0) == plain


def test_objectives_at_no_strength_are_plain():
    model, (x, y) = build(), data()
    mixed, none = model(x), replace(SETTINGS, strength=0.0, radius=0.0)
    plain = objective(mixed, y, none, "vanilla")
    torch.testing.assert_close(objective(mixed, y, none, "tilted"), plain)
    torch.testing.assert_close(objective(mixed, y, none, "bounded"), plain)
    assert objective(mixed, y, SETTINGS, "bounded") > plain


def test_configurations_number_the_leading_experts():
    routing = torch.tensor([[0.5, 0.3, 0.2], [0.3, 0.5, 0.2], [0.6, 0.1, 0.3]])
    assert configurations(routing).tolist() == [1, 3, 2]
    assert configurations(routing, top=1).tolist() == [0, 1, 0]
    with pytest.raises(InputError, match="between 1 and the number of experts 3"):
        configurations(routing, top=4)


def test_text_contexts_are_read_in_order():
    trunk = seeded(lambda: ClassifierMoE(ContextTrunk(9, 3, 16), 16, 4), 0)
    there, back = torch.tensor([[1, 2, 3]]), torch.tensor([[3, 2, 1]])
    assert not torch.equal(trunk(there).log_probs, trunk(back).log_probs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": -0.1}, "are 0 or more"),
        ({"strength": float("nan")}, "are 0 or more"),
        ({"objective": "robust"}, "No objective is called 'robust'"),
        ({"epochs": 0}, "at least 1 epoch"),
        ({"warm_up": 1.5}, "warm-up between 0 and 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(change: dict, message: str):
    if change.get("objective"):  # a wrong name is also a wrong type: ask the check itself
        settings = object.__new__(RobustSettings)
        for name, value in (vars(SETTINGS) | change).items():
            object.__setattr__(settings, name, value)
        with pytest.raises(InputError, match=message):
            settings.__post_init__()
        return
    with pytest.raises(InputError, match=message):
        replace(SETTINGS, **change)


def test_data_that_do_not_fit_are_refused():
    x, y = data()
    with pytest.raises(InputError, match="120 samples and 119 labels"):
        train(build(), x, y[:-1], SETTINGS, 0)
    with pytest.raises(InputError, match="labels from 0 to 3"):
        train(build(), x, torch.arange(120) % 4, SETTINGS, 0)
    with pytest.raises(InputError, match="at least 2 experts"):
        ClassifierMoE(PixelTrunk(6), 64, 3, experts=1)
