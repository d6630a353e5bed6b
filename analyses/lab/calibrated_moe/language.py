"""The sparse language models of the pool: next-token confidence where they were trained and where they were not.

Every model is scored as trained and after one temperature fitted on calibration documents of the training domains. A
sparse language model mixes hidden states and not probabilities, so neither theorem of arXiv 2606.20544 is about it;
what carries over is the question.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

import moeaudit as ma
from moeaudit.calibration.shift.worst_case_tilt import worst_mean
from moeaudit.errors import InputError
from moeaudit.runs.calibration.reading import Reading, read
from moeaudit.seeds import generator
from moeaudit.text.choice import beginnings
from moeaudit.text.for_model import tokens_for

from .classifiers.methods import CONFIGURATION_RADIUS, GLOBAL, NONE
from .rows import Key, row_of, verdict
from .scores import METRICS, Sampler, Scores, difference, limits, remaining

TASK, FOCUS, MIX = "language", "all shifted", "in-domain mix"
TURNS = 20  # of the null
GRID = np.geomspace(1 / 16, 4, 37)  # a tilt wants less than a quarter


@dataclass(frozen=True)
class Tokens:
    """The predicted tokens that every model is scored on, as `Sampler` asks for them."""

    cluster: np.ndarray  # the document of each
    block: np.ndarray  # the domain of each document
    stratum: np.ndarray
    weight: np.ndarray
    seen: tuple[str, ...]
    shifted: tuple[str, ...]


def texts(model: ma.Model, documents: int, tokens: int) -> tuple[Any, Any]:
    """Documents that temperatures are fitted on, and those that are scored: of seen and of held-out domains."""

    def drawn(split: str) -> Any:
        return ma.corpus("bundled", split=split).sample(documents, seed=0, per_domain=True)

    tested = ma.Corpus([*drawn("test"), *drawn("shift")])
    return tuple(
        beginnings(tokens_for(model, corpus), tokens)[0]
        for corpus in (drawn("calibration"), tested)
    )  # type: ignore[return-value]


def sampler_of(read_once: Reading) -> Sampler:
    """Resamples of documents, the same for all models: they read the same tokens."""
    frame: Any = read_once.tokens
    seen = tuple(sorted(set(ma.corpus("bundled", split="test").domains)))
    domains = frame.groupby("document")["domain"].first()
    place = frame["document"].map({d: i for i, d in enumerate(domains.index)}).to_numpy()
    stratum = frame["domain"].to_numpy(dtype=object).astype(str)
    shifted = tuple(sorted(set(stratum) - set(seen)))
    _, block = np.unique(domains.to_numpy(dtype=object).astype(str), return_inverse=True)
    return Sampler(Tokens(place, block, stratum, np.isin(stratum, seen) * 1.0, seen, shifted))


@dataclass(frozen=True)
class Scored:
    """One model: scores by recalibration, and a row of facts."""

    scores: dict[str, Scores]
    facts: dict[str, Any]


def scored(model: ma.Model, fitted_on: Any, tested: Reading, sampler: Sampler) -> Scored:
    """Scores as trained and after one temperature, and how far routing alone can move the gap in domain."""
    temperature = read(model, fitted_on, temperatures=GRID).grid.fit().overall
    frame: Any = tested.tokens
    correct, found = frame["correct"].to_numpy(), {}
    for name, t in ((NONE, 1.0), (GLOBAL, temperature)):
        nll, confidence = tested.grid.at(t)
        found[name] = sampler.of(confidence, correct, nll)
    _, confidence = tested.grid.at(temperature)
    facts = {"temperature": temperature} | _worst(tested, confidence - correct, sampler)
    return Scored(found, facts)


def _worst(tested: Reading, residual: np.ndarray, sampler: Sampler) -> dict[str, float]:
    """The largest |gap| in domain over mixes of the first experts of a layer within 0.1 nats, a mean over layers.

    After the temperature. `worst_null`: the same with the experts of the tokens turned round against their residuals,
    which keeps runs of tokens and of documents as long as they are.
    """
    names = ("worst", "worst_null", "worst_excess")
    if tested.routing is None:
        raise InputError(
            "What was read of this model holds no routing; read(..., routing=True) keeps it."
        )
    rows = sampler.test.weight > 0
    gap, rng = residual[rows], generator(0, "turned routing")
    turns = rng.integers(len(gap) // 10, len(gap) - len(gap) // 10, TURNS)
    top = tested.routing.top1[rows]
    values = [
        [_layer(np.roll(top[:, layer], turn), gap) for turn in (0, *turns)]
        for layer in range(top.shape[1])
    ]
    means = np.mean(values, axis=0)
    null = float(means[1:].mean())
    return dict(zip(names, (float(means[0]), null, float(means[0] - null))))


def _layer(expert: np.ndarray, gap: np.ndarray) -> float:
    _, place = np.unique(expert, return_inverse=True)
    mass = np.bincount(place).astype(float)
    mean = np.bincount(place, gap) / mass
    share = mass / mass.sum()
    return max(worst_mean(share, sign * mean, CONFIGURATION_RADIUS).value for sign in (1, -1))


def notes(models: pd.DataFrame) -> list[str]:
    """Which models want a temperature beyond the grid, and have its end instead: they know next to nothing."""
    ends = ~models["temperature"].between(GRID[0] * 1.0001, GRID[-1] / 1.0001)
    return [
        f"{r.arm}, seed {r.seed}: its temperature would lie beyond {GRID[0]:g} to {GRID[-1]:g}; "
        f"{r.temperature:.3g} was taken."
        for r in models[ends].itertuples()
    ]


def measured(
    pool: Any, arms: tuple[str, ...], documents: int, tokens: int
) -> tuple[dict[tuple[str, str], Scores], Sampler, pd.DataFrame]:
    """Scores by (arm, recalibration), the sampler, and a row of facts for each model."""
    parts: dict[tuple[str, str], list[Scores]] = {}
    fitted_on, tested_on = texts(ma.load(pool.get(arms[0], pool.seeds[0])), documents, tokens)
    rows, sampler = [], None
    for arm in arms:
        for seed in pool.seeds:
            model = ma.load(pool.get(arm, seed))
            tested = read(model, tested_on, routing=True, temperatures=GRID)
            sampler = sampler or sampler_of(tested)
            found = scored(model, fitted_on, tested, sampler)
            for name, scores in found.scores.items():
                parts.setdefault((arm, name), []).append(scores)
            rows.append({"arm": arm, "seed": seed, **found.facts})
            print(f"language {arm} seed {seed}: T = {found.facts['temperature']:.3f}", flush=True)
    assert sampler is not None
    return {k: Scores.stack(v) for k, v in parts.items()}, sampler, pd.DataFrame(rows)


def by_routing(scores: dict[tuple[str, str], Scores]) -> dict[Key, Scores]:
    """Keyed as the classifiers' are: every language model here is sparse, its arm the training."""
    return {("sparse", arm, recalibration): s for (arm, recalibration), s in scores.items()}


def difference_rows(
    scores: dict[tuple[str, str], Scores], against: str, strata: list[str]
) -> Iterator[dict[str, Any]]:
    """Each arm less `against`, both as trained and both with a temperature of their own, and what is left of a gain."""
    for arm in dict.fromkeys(arm for arm, _ in scores):
        if arm == against:
            continue
        raw, after = ((scores[arm, r], scores[against, r]) for r in (NONE, GLOBAL))
        for i, stratum in enumerate(strata):
            for metric in ("ece", "abs_gap", "gap", "accuracy", "nll"):
                gain, left = difference(*raw, metric, i), difference(*after, metric, i)
                row = {
                    "task": TASK, "training": arm, "against": against, "stratum": stratum, "metric": metric,
                    "raw": gain.value, "raw_low": gain.low, "raw_high": gain.high,
                    "after": left.value, "after_low": left.low, "after_high": left.high,
                }  # fmt: skip
                if metric in ("ece", "abs_gap"):
                    share = remaining(raw, after, metric, i)
                    row["verdict"] = verdict(gain, share)
                yield row


def shift_rows(
    scores: dict[tuple[str, str], Scores], strata: list[str]
) -> Iterator[dict[str, Any]]:
    """What the shift does to each arm: held-out domains less the training mix, paired by seed and resample."""
    mix, focus = strata.index(MIX), strata.index(FOCUS)
    for (arm, recalibration), s in scores.items():
        for metric in METRICS:
            value, draws = s.value[metric], s.draws[metric]
            limit = limits(value[:, focus] - value[:, mix], draws[:, focus] - draws[:, mix])
            yield row_of(limit, training=arm, recalibration=recalibration, metric=metric)
