"""What calibration_scores does on known truth: coverage of limits, uniformity of p-values, bias.

    python benchmarks/calibration_validity.py --simulations 1000 --out validity.json

Documents are clustered: within one, outcomes depend on a shared effect (a probit copula, so that P(correct |
confidence) stays what it is said to be). The truth of each score comes from the same confidences
with the true chance in place of outcomes.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import ndtr

from moeaudit.calibration import Predictions, calibration_scores

SCENARIOS = {
    # name: (dependence within documents, chance of being correct as a function of confidence)
    "calibrated, independent": (0.0, lambda c: c),
    "calibrated, clustered": (0.3, lambda c: c),
    "over-confident, clustered": (0.3, lambda c: c**1.5),
    "wrong in one place, clustered": (0.3, lambda c: np.where(c > 0.8, c - 0.15, c)),
    "slightly over-confident, clustered": (0.3, lambda c: c**1.1),
}


def confidences(
    rng: np.random.Generator, documents: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Documents of uneven length, with confidences that lean one way within each."""
    length = 1 + rng.poisson(size - 1, documents)
    document = np.repeat(np.arange(documents), length)
    lean = rng.normal(0, 0.5, documents)[document]
    return ndtr(0.6 + lean + rng.normal(0, 0.7, len(document))), document


def simulate(rng: np.random.Generator, scenario: str, documents: int, size: int) -> Predictions:
    """One data set."""
    share, chance = SCENARIOS[scenario]
    c, document = confidences(rng, documents, size)
    common = rng.normal(size=documents)[document]
    u = ndtr(np.sqrt(share) * common + np.sqrt(1 - share) * rng.normal(size=len(c)))
    return Predictions(c, u < chance(c), document=document)


def truth(scenario: str, size: int) -> pd.Series:
    """Every score without noise: a large sample in which outcomes count by their chance."""
    rng = np.random.default_rng(99)
    c, document = confidences(rng, 300_000 // size, size)
    chance = SCENARIOS[scenario][1](c)
    correct = np.r_[np.ones(len(c), bool), np.zeros(len(c), bool)]
    p = Predictions(
        np.r_[c, c], correct, document=np.r_[document, document], weight=np.r_[chance, 1 - chance]
    )
    table = calibration_scores(p, by=None, draws=20).set_index("score")["value"]
    for root in ("rows", "documents"):  # no noise, so nothing to take away
        table[f"ece_squared_{root}"] = table["ece_mass_l2"] ** 2
        table[f"ece_debiased_{root}"] = table["ece_mass_l2"]
    return table.astype(float)


def study(scenario: str, simulations: int, documents: int, size: int, draws: int) -> pd.DataFrame:
    """One row per score."""
    true = truth(scenario, size)
    tables = []
    for i in range(simulations):
        rng = np.random.default_rng([i, documents, size])
        p = simulate(rng, scenario, documents, size)
        tables.append(calibration_scores(p, by=None, draws=draws, seed=i))
    rows = []
    for score, part in pd.concat(tables).groupby("score", sort=False):
        value = part["value"].astype(float)
        low, high = part["low"].astype(float), part["high"].astype(float)
        p, own = part["p"].astype(float), part["p_documents"].astype(float)
        known, near = low.notna(), 1e-9  # the truth itself is a number with rounding
        below, above = high < true[score] - near, low > true[score] + near
        rows.append(
            {
                "scenario": scenario,
                "score": score,
                "truth": true[score],
                "mean": value.mean(),
                "se": value.std() / np.sqrt(len(value)),
                "coverage": float((~below & ~above)[known].mean()),
                "too_low": float(below[known].mean()),
                "too_high": float(above[known].mean()),
                "width": float((high - low).mean()),
                "p_below_05": float((p[p.notna()] <= 0.05).mean()),
                "p_documents_below_05": float((own[own.notna()] <= 0.05).mean()),
                "p_ks": _uniformity(p),
                "p_documents_ks": _uniformity(own),
            }
        )
    return pd.DataFrame(rows)


def _uniformity(p: pd.Series) -> float:
    """P-value of a Kolmogorov-Smirnov test that the p-values are uniform."""
    from scipy.stats import kstest

    return float(kstest(p.dropna(), "uniform").pvalue) if p.notna().any() else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--size", type=int, default=20, help="mean predictions of a document")
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--scenario", choices=list(SCENARIOS), action="append")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    tables = []
    for scenario in options.scenario or SCENARIOS:
        since = time.process_time()
        table = study(scenario, options.simulations, options.documents, options.size, options.draws)
        tables.append(table)
        print(f"{scenario}: {time.process_time() - since:.0f} CPU seconds")
        print(table.drop(columns="scenario").round(4).to_string(index=False))
        if options.out:
            text = pd.concat(tables).to_json(orient="records", indent=1)
            options.out.write_text(json.dumps(json.loads(text), indent=1) + "\n")


if __name__ == "__main__":
    main()
