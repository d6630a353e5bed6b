"""Training one mixture and answering with it: as trained, and after each kind of temperature."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp
from torch import Tensor

from moeaudit.calibration.recalibrate.temperature.temperature import fit_temperature
from moeaudit.calibration.shift.worst_case_tilt import worst_mean

from .kept import keep, place_of, weights_of
from .robust_training import Answers, Objective, RobustSettings, objective, predict, seeded, train
from .soft_moe import ClassifierMoE, Mixed, Routing, configurations
from .tasks import Task

ROBUST: tuple[Objective, ...] = ("tilted", "filtered", "bounded")
NONE, GLOBAL = "none", "one temperature"
PUBLISHED, ROUTED = "per expert, all samples", "per expert, routed samples"
LEAST, MOST = 0.05, 20.0
CONFIGURATION_RADIUS = 0.1  # nats
SMALL_SHARE = 0.01


def by_objective(kind: Objective) -> str:
    """The recalibration that fits one temperature by a robust objective instead of the NLL."""
    return f"one temperature, by the {kind} loss"


@dataclass(frozen=True)
class Fitted:
    """One trained model: test log-probabilities by recalibration, temperatures, routing facts."""

    log_probs: dict[str, np.ndarray]
    temperatures: dict[str, list[float]]
    routing: np.ndarray  # (test rows, experts)


def fit(task: Task, routing: Routing, kind: Objective, seed: int, folder: Path) -> Fitted:
    """Train on one split (or read it from `folder`), fit temperatures on validation, answer the test rows.

    Hard routing has a load-balance loss of 0.01, without which one expert takes all; soft routing has
    none, as published.
    """
    settings = replace(task.settings, objective=kind, balance=0.01 if routing == "hard" else 0.0)
    (x, y), (valid_x, valid_y) = task.draw(seed)
    model = seeded(
        lambda: ClassifierMoE(task.trunk(), task.width, task.classes, routing=routing), seed
    )
    place = place_of(folder, task, routing, settings, seed, (x, y))
    weights = weights_of(place)
    if weights is None:
        train(model, x, y, settings, seed)
        keep(place, model)
    else:
        model.load_state_dict(weights)
    valid, test = predict(model, valid_x), predict(model, task.test.inputs)
    labels = valid_y.numpy()
    overall = fit_temperature(valid.log_probs, labels)
    out = {NONE: test.log_probs, GLOBAL: overall.log_probabilities(test.log_probs)}
    temperatures = {GLOBAL: [overall.overall]}
    if kind == "vanilla":
        for name, routed in ((PUBLISHED, False), (ROUTED, True)):
            each = _expert_temperatures(valid, labels, routed)
            out[name] = remix(test, each)
            temperatures[name] = each.tolist()
        for robust in ROBUST:
            t = _objective_temperature(valid, valid_y, replace(settings, objective=robust))
            out[by_objective(robust)] = log_softmax(test.log_probs / t, axis=1)
            temperatures[by_objective(robust)] = [t]
    return Fitted(out, temperatures, test.routing)


def _expert_temperatures(valid: Answers, labels: np.ndarray, routed: bool) -> np.ndarray:
    """One temperature an expert, within [0.1, 10] (arXiv 2606.20544's MoCaE baseline).

    As published every expert is fitted on all validation samples, those it is never asked about
    included; `routed` weighs each sample by the expert's router weight instead. An expert that
    gets no weight keeps 1.
    """
    experts = valid.routing.shape[1]
    out = np.ones(experts)
    for k in range(experts):
        weight = valid.routing[:, k] if routed else None
        if weight is not None and not weight.any():
            continue
        fitted = fit_temperature(
            valid.expert_log_probs[:, k], labels, weight=weight, bounds=(0.1, 10.0)
        )
        out[k] = fitted.overall
    return out


def remix(answers: Answers, temperatures: np.ndarray) -> np.ndarray:
    """The mixture's log-probabilities with every expert tempered before it is mixed."""
    each = log_softmax(answers.expert_log_probs / temperatures[None, :, None], axis=2)
    return np.asarray(logsumexp(each, axis=1, b=answers.routing[..., None]))


def _objective_temperature(answers: Answers, labels: Tensor, settings: RobustSettings) -> float:
    """The temperature of the answer that minimises a robust objective over batches of validation.

    Batches have the size they had in training, since the published tilt depends on it.
    """

    def value(log_t: float) -> float:
        parts = [
            (objective(mixed, y, settings, settings.objective).item(), len(y))
            for mixed, y in _batches(answers, labels, settings.batch, np.exp(log_t))
        ]
        return float(np.average([v for v, _ in parts], weights=[n for _, n in parts]))

    found = minimize_scalar(
        value, bounds=(np.log(LEAST), np.log(MOST)), method="bounded", options={"xatol": 1e-3}
    )
    return float(np.exp(found.x))  # type: ignore[attr-defined]


def _batches(
    answers: Answers, labels: Tensor, size: int, temperature: float
) -> Iterator[tuple[Mixed, Tensor]]:
    cold = torch.from_numpy(log_softmax(answers.log_probs / temperature, axis=1))
    routing = torch.from_numpy(answers.routing)
    each = torch.from_numpy(answers.expert_log_probs)
    for start in range(0, len(labels), size):
        s = slice(start, start + size)
        # Only the order of the router's logits is used here, and weights have the same.
        yield Mixed(cold[s], routing[s], each[s], routing[s]), labels[s]


def configuration_facts(task: Task, fitted: Fitted, recalibration: str) -> dict[str, float]:
    """How far the in-domain gap can be moved by routing alone, for one model.

    `worst`: the largest |gap| over mixes of the ordered two largest router weights (for hard routing:
    of the chosen expert) within 0.1 nats of today's mix. `expert`: the largest |gap| of a top-1
    expert with at least 1 % of the rows. Not corrected for noise, which makes both positive.
    """
    weight = task.test.weight
    rows = weight > 0
    log_probs, w = fitted.log_probs[recalibration][rows], weight[rows] / weight[rows].sum()
    residual = np.exp(log_probs.max(1)) - (log_probs.argmax(1) == task.test.labels.numpy()[rows])
    routing = torch.from_numpy(fitted.routing[rows])
    top = routing.argmax(1).numpy()
    one_hot = bool((fitted.routing.max(1) == 1).all())
    cells = top if one_hot else configurations(routing).numpy()
    mass, gap = _by_cell(cells, w, residual)
    worst = max(worst_mean(mass, sign * gap, CONFIGURATION_RADIUS).value for sign in (1, -1))
    share, of_expert = _by_cell(top, w, residual)
    return {
        "worst": worst,
        "expert": float(np.abs(of_expert[share >= SMALL_SHARE]).max()),
        "configurations": float(len(mass)),
        "experts_used": float((share >= SMALL_SHARE).sum()),
        "largest_weight": float(np.average(fitted.routing[rows].max(1), weights=w)),
    }


def _by_cell(
    cells: np.ndarray, weight: np.ndarray, residual: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    _, place = np.unique(cells, return_inverse=True)
    mass = np.bincount(place, weight)
    return mass, np.bincount(place, weight * residual) / mass
