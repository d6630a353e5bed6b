"""The losses against brute force, and their gradients as documented."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from analyses.lab.calibrated_moe.classifiers.robust import (
    configuration_losses,
    filtered,
    relevant,
    sample_losses,
    tilted,
    worst_case,
)
from analyses.lab.calibrated_moe.classifiers.soft_moe import ClassifierMoE, Mixed, PixelTrunk
from moeaudit.errors import InputError


def losses(n: int = 40, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


def brute_force(means: np.ndarray, base: np.ndarray, radius: float) -> float:
    """max q . means on the simplex within the ball, by a solver that knows nothing of tilts."""

    def kl(q: np.ndarray) -> float:
        q = np.clip(q, 1e-300, None)
        return float((q * np.log(q / base)).sum())

    best = -np.inf
    for start in (base, *(0.9 * base + 0.1 * row for row in np.eye(len(base)))):
        found = minimize(
            lambda q: -q @ means,
            start,
            bounds=[(0, 1)] * len(base),
            constraints=[
                {"type": "eq", "fun": lambda q: q.sum() - 1},
                {"type": "ineq", "fun": lambda q: radius - kl(q)},
            ],
            method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-12},
        )
        if found.success and kl(found.x) <= radius + 1e-6:
            best = max(best, -found.fun)
    return best


@pytest.mark.filterwarnings("ignore:Values in x were outside bounds:RuntimeWarning")
@pytest.mark.parametrize("radius", [0.01, 0.1, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_closed_form_is_the_maximum_over_the_simplex(radius: float, seed: int):
    cells = torch.from_numpy(np.random.default_rng(seed).choice(4, 40, p=[0.4, 0.3, 0.2, 0.1]))
    l = losses(seed=seed)
    means, shares = configuration_losses(l, cells, 4)
    value = worst_case(l, cells, 4, radius).item()
    assert value == pytest.approx(brute_force(means.numpy(), shares.numpy(), radius), abs=2e-5)
    if radius == 4.0:  # beyond -log of the smallest share
        assert value == pytest.approx(means.max().item())


def test_no_radius_and_no_strength_are_the_plain_mean():
    l, cells = losses(), torch.arange(40) % 3
    assert worst_case(l, cells, 3, 0.0).item() == pytest.approx(l.mean().item())
    assert worst_case(l, cells, 3, 1e-10).item() == pytest.approx(l.mean().item(), abs=1e-4)
    assert tilted(l, 0.0).item() == pytest.approx(l.mean().item())
    assert tilted(l, 1e6).item() == pytest.approx(l.max().item())
    values = [worst_case(l, cells, 3, r).item() for r in (0.0, 0.01, 0.1, 1.0)]
    assert values == sorted(values)


def test_the_tilt_s_gradient_goes_through_its_weights():
    l = losses(6).requires_grad_()
    value = tilted(l, 2.0)
    value.backward()
    w = torch.softmax(2 * l.detach(), 0)
    assert l.grad is not None
    torch.testing.assert_close(l.grad, w * (1 + 2 * (l.detach() - value.detach())))
    # A sample well below the value is pushed up, which detached weights would never do.
    assert l.grad.min() < 0


def test_the_bounded_gradient_is_that_of_the_maximum():
    cells = torch.tensor([0, 0, 1, 1, 1, 2])
    l = losses(6).requires_grad_()
    worst_case(l, cells, 3, 0.2).backward()
    assert l.grad is not None and (l.grad >= 0).all()
    assert l.grad.sum().item() == pytest.approx(1)
    step = 1e-6
    for i in range(6):  # Danskin: weights held fixed, the derivative of the maximum all the same
        up, down = (l.detach().clone() for _ in range(2))
        up[i] += step
        down[i] -= step
        slope = (worst_case(up, cells, 3, 0.2) - worst_case(down, cells, 3, 0.2)) / (2 * step)
        assert l.grad[i].item() == pytest.approx(slope.item(), abs=1e-5)


def mixed(probs: list[list[list[float]]], routing: list[list[float]]) -> Mixed:
    """A mixture from expert probabilities (samples, experts, classes) and router weights."""
    each, r = torch.tensor(probs).double(), torch.tensor(routing).double()
    f = (r[..., None] * each).sum(1)
    return Mixed(f.log(), r, each.log(), r.log())


EXPERTS = [
    [[0.9, 0.1], [0.1, 0.9]],  # experts disagree, the second one loses less on label 1
    [[0.7, 0.3], [0.7, 0.3]],  # all alike: neither regret nor disagreement
    [[0.6, 0.4], [0.5, 0.5]],  # disagree by .0025 < .01; regret on label 1 though, not on 0
]


def test_the_filter_keeps_what_routing_can_change():
    answer = mixed(EXPERTS, [[0.5, 0.5]] * 3)
    assert relevant(answer, torch.tensor([1, 0, 1])).tolist() == [True, False, True]
    # Without regret, disagreement alone decides: .16 * 2 for the first sample, .005 for the last.
    assert relevant(answer, torch.tensor([1, 0, 1]), regret=9.0).tolist() == [True, False, False]
    # Hard routing has no disagreement, only regret.
    hard = mixed(EXPERTS, [[1.0, 0.0]] * 3)
    assert relevant(hard, torch.tensor([0, 0, 0])).tolist() == [False, False, False]
    assert relevant(hard, torch.tensor([1, 0, 1])).tolist() == [True, False, True]


def test_the_filtered_loss_is_the_mean_plus_the_tilt_of_the_relevant():
    answer, y = mixed(EXPERTS, [[0.5, 0.5]] * 3), torch.tensor([1, 0, 1])
    l = sample_losses(answer, y)
    torch.testing.assert_close(l.exp(), 1 / torch.tensor([0.5, 0.7, 0.45]).double())
    torch.testing.assert_close(filtered(answer, y, 2.0), l.mean() + tilted(l[[0, 2]], 2.0))
    alike = mixed([EXPERTS[1]] * 2, [[0.5, 0.5]] * 2)
    y = torch.tensor([0, 1])
    torch.testing.assert_close(filtered(alike, y, 2.0), 2 * sample_losses(alike, y).mean())


def test_filtered_losses_reach_router_and_experts():
    model = ClassifierMoE(PixelTrunk(5, 8), 8, 3)
    x, y = torch.rand(20, 5), torch.arange(20) % 3
    filtered(model(x), y, 2.0).backward()
    for p in model.parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda l: worst_case(l, torch.zeros(40).long(), 1, -0.1), "radius is 0 nats or more"),
        (lambda l: worst_case(l, torch.zeros(40).long(), 1, float("nan")), "radius is 0 nats"),
        (lambda l: worst_case(l, torch.arange(40) % 2, 4, 0.1), "in configuration 2, 3 of 4"),
        (lambda l: worst_case(l, torch.arange(40), 4, 0.1), "numbered 0 to 3"),
        (lambda l: tilted(l, -1.0), "strength of a tilt is 0 or more"),
    ],
)
def test_what_has_no_answer_is_refused(call, message: str):
    with pytest.raises(InputError, match=message):
        call(losses())
