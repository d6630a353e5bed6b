"""Calibration where errors are rare: false claims, power and limits, measured on known truth.

    python benchmarks/calibration_rare.py --simulations 200

Most confidences lie above 0.99, as those of a good language model do. Outcomes of a document are tied by a
probit effect of correlation `rho`, so that P(correct | confidence) stays what it is said to be. `factor`
multiplies the chance of an error: 1 is calibrated, 3 over-confident.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from scipy.special import ndtr

from moeaudit.calibration import (
    Predictions,
    calibration_scores,
    conformal_sets,
    routing_calibration,
)

ROUTING = [  # law of confidences, rho, factor
    ("certain", 0.0, 1.0),
    ("half certain", 0.0, 1.0),
    ("certain", 0.2, 1.0),
    ("half certain", 0.2, 1.0),
    ("certain", 0.0, 3.0),
    ("certain", 0.2, 3.0),
    ("above 0.9", 0.0, 1.0),
    ("above 0.9", 0.2, 1.0),
]
SCORES = [  # documents, rows of each, range of confidences, rho, factor
    (20, 25, (0.99, 1.0), 0.0, 1.0),
    (20, 25, (0.995, 0.9999), 0.0, 1.0),
    (64, 95, (0.999, 1.0), 0.0, 1.0),
    (64, 95, (0.99, 1.0), 0.0, 1.0),
    (64, 95, (0.99, 1.0), 0.2, 1.0),
    (64, 95, (0.999, 1.0), 0.2, 1.0),
    (64, 95, (0.999, 1.0), 0.0, 5.0),
    (64, 95, (0.99, 1.0), 0.2, 3.0),
]


def outcomes(
    rng: np.random.Generator, c: np.ndarray, document: np.ndarray, rho: float, factor: float
) -> np.ndarray:
    """Whether each prediction is right."""
    common = rng.normal(size=document.max() + 1)[document]
    u = ndtr(np.sqrt(rho) * common + np.sqrt(1 - rho) * rng.normal(size=len(c)))
    return u >= (1 - c) * factor


def routing(law: str, rho: float, factor: float, seed: int) -> tuple[bool, bool]:
    """Whether any of 16 groups in 64 documents of 95 tokens is called over-, or under-confident."""
    rng = np.random.default_rng([seed, 1])
    n = 64 * 95
    c = 1 - 10 ** rng.uniform(-6, -1.5, n)
    if law == "half certain":
        c = np.where(rng.random(n) < 0.5, c, rng.random(n))
    if law == "above 0.9":  # about 38 errors in each of 8 groups: enough to turn signs
        c = rng.uniform(0.9, 1, n)
    document = np.repeat(np.arange(64), 95)
    p = Predictions.of(c, outcomes(rng, c, document, rho, factor), document=document)
    groups = {"expert": rng.integers(0, 8 if law == "above 0.9" else 16, n)}
    verdict = routing_calibration(p, groups, n_flips=2000, draws=20, seed=seed)["verdict"].tolist()
    return "over-confident" in verdict, "under-confident" in verdict


def scores(
    documents: int, size: int, ends: tuple[float, float], rho: float, factor: float, seed: int
) -> dict[str, float]:
    """One data set: p by documents of three scores, and whether limits hold the truth."""
    rng = np.random.default_rng([seed, 2])
    c = rng.uniform(*ends, documents * size)
    document = np.repeat(np.arange(documents), size)
    p = Predictions.of(c, outcomes(rng, c, document, rho, factor), document=document)
    table = calibration_scores(p, by=None, draws=200, seed=seed).set_index("score")
    truth = (factor - 1) * (1 - sum(ends) / 2)
    row = {}
    for score, true in (("gap", truth), ("ece_mass_l1", None), ("kuiper", abs(truth))):
        row[f"p {score}"] = float(table.loc[score, "p_documents"] <= 0.05)
        if true is not None:
            low, high = table.loc[score, "low"], table.loc[score, "high"]
            row[f"cover {score}"] = float(low - 1e-9 <= true <= high + 1e-9)
    return row


def conformal(documents: int, size: int, seed: int) -> dict[str, float]:
    """Coverage, in 4,000 new documents, of sets from clustered rows, taken as rows and as documents."""
    rng = np.random.default_rng([seed, 3])

    def rows(k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        document = np.repeat(np.arange(k), size)
        lean = rng.normal(size=k)[document]
        score = ndtr(np.sqrt(0.3) * lean + np.sqrt(0.7) * rng.normal(size=len(document)))
        return np.stack([1 - score, score], axis=1), np.zeros(len(document), int), document

    (p, y, document), (q, label, _) = rows(documents), rows(4000)
    out = {}
    for name, given in (("rows", None), ("documents", document)):
        sets = conformal_sets(q, fit_probabilities=p, fit_label=y, fit_document=given)
        out[name] = float(sets.sets[np.arange(len(label)), label].mean())
    return out


def uneven(seed: int) -> dict[str, float]:
    """Limits of gap, smECE and Kuiper in 20 uneven documents with heavy-tailed effects; calibrated."""
    rng = np.random.default_rng([seed, 4])
    length = np.maximum(3, rng.lognormal(3, 0.8, 20).astype(int))
    document = np.repeat(np.arange(20), length)
    c = rng.uniform(0.05, 0.95, len(document))
    effect = 0.1 * rng.standard_t(3, 20)[document]
    p = Predictions.of(c, rng.random(len(c)) < np.clip(c + effect, 0, 1), document=document)
    table = calibration_scores(p, by=None, draws=400, seed=seed).set_index("score")
    return {
        f"cover {score}": float(table.loc[score, "low"] <= 0 <= table.loc[score, "high"])
        for score in ("gap", "smece", "kuiper")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=200)
    parser.add_argument(
        "--part", choices=("routing", "scores", "conformal", "uneven"), action="append"
    )
    options = parser.parse_args()
    n = options.simulations
    parts = options.part or ["routing", "scores", "conformal", "uneven"]
    if "routing" in parts:
        for case in ROUTING:
            over, under = np.array([routing(*case, seed) for seed in range(n)]).T
            any_ = float((over | under).mean())
            error = np.sqrt(any_ * (1 - any_) / n)
            print(
                f"{case}: any {any_:.3f} (SE {error:.3f}), over {over.mean():.3f}, under {under.mean():.3f}",
                flush=True,
            )
    if "scores" in parts:
        for law in SCORES:
            found = pd.DataFrame([scores(*law, seed) for seed in range(n)]).mean()
            print(law, found.round(3).to_dict(), flush=True)
    if "conformal" in parts:
        for k, size in ((10, 50), (20, 25), (100, 20)):
            found = pd.DataFrame([conformal(k, size, seed) for seed in range(n)])
            low, mean = found.quantile(0.05).round(3).to_dict(), found.mean().round(3).to_dict()
            print(f"conformal {k} x {size}: mean {mean}, 5 % of sets below {low}", flush=True)
    if "uneven" in parts:
        found = pd.DataFrame([uneven(seed) for seed in range(n)]).mean()
        print("20 uneven documents, t3 effects:", found.round(3).to_dict(), flush=True)


if __name__ == "__main__":
    main()
