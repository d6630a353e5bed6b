"""Is a rank correlation called above the bound, or absent, when it lies on it?

    OMP_NUM_THREADS=1 nice -n 10 python -m benchmarks.validity.ranked --audits 300

Audits of `expert_harm` in which every metric's correlation with the harm itself is exactly the bound, for the
population of experts ("experts of this layer") and, told apart, for the experts that were drawn ("these
experts"). Harm is seen through the noise of documents; experts of a layer share what a document does to all.
"""

from __future__ import annotations

import argparse

import numpy as np

from moeaudit.stats.families.families import adjust
from moeaudit.stats.ranking.correlation import spearman_rows
from moeaudit.stats.ranking.harm import Harm
from moeaudit.stats.ranking.reliability import attenuation
from moeaudit.stats.ranking.size import OverRanked, Size
from moeaudit.stats.sizes.bootstrap import document_weights

BOUND, LAYERS, METRICS, DOCUMENTS = 0.3, 8, 11, 60
LAWS = {
    "normal": np.inf,  # degrees of freedom of what harm and metric share as their scale
    "a few experts carry it": 2.0,
}
CASES = ((32, 0.75), (16, 0.75), (64, 0.75), (32, 0.95), (32, 0.5))


def drawn(rng: np.random.Generator, dof: float, experts: int) -> tuple[np.ndarray, np.ndarray]:
    """Harm (experts,) and metrics (metrics, experts), elliptical: Spearman's rho is `truth(dof)`."""
    r = 2 * np.sin(np.pi * BOUND / 6)
    harm = rng.standard_normal(experts)
    metrics = r * harm + np.sqrt(1 - r * r) * rng.standard_normal((METRICS, experts))
    scale = 1.0 if np.isinf(dof) else np.sqrt(dof / rng.chisquare(dof, experts))
    return np.sign(harm) * np.log1p(np.abs(harm * scale)), metrics * scale


def truth(dof: float) -> float:
    """Spearman's rho of the law, by a million experts."""
    harm, metrics = drawn(np.random.default_rng(3), dof, 100_000)
    return float(spearman_rows(metrics, harm[None]).mean())


def measured(
    dof: float, experts: int, reliable: float, audits: int, bound: float
) -> dict[str, float]:
    """Shares of audits (any cell, after Holm) and of cells (uncorrected) with a wrong claim at .05."""
    weights, ones = document_weights(DOCUMENTS, 300, 1), np.ones((DOCUMENTS, experts))
    said: dict[str, list[float]] = {}
    for audit in range(audits):
        rng = np.random.default_rng([audit, experts, int(100 * reliable)])
        p = []
        for layer in range(LAYERS):
            harm, metrics = drawn(rng, dof, experts)
            noise = np.std(harm) * np.sqrt((1 - reliable) / reliable * DOCUMENTS / 2)
            shared = noise * rng.standard_t(4, (DOCUMENTS, 1))
            seen = harm + noise * rng.standard_t(4, (DOCUMENTS, experts)) + shared
            data = Harm(layer, np.arange(experts), seen, ones, ones[:, 0], 0, "active_token")
            known = attenuation(data, audit, n_splits=30)
            found = spearman_rows(metrics, seen.mean(axis=0)[None])[0]
            draws = spearman_rows(metrics, weights @ seen / DOCUMENTS)
            here = np.abs(spearman_rows(metrics, harm[None])[0])
            for i, x in enumerate(metrics):
                over = OverRanked.of(x, seen.mean(axis=0))
                size = Size(float(found[i]), known.observed_se(draws[:, i]), DOCUMENTS, over, known)
                own = max(float(here[i]), 1e-3)
                p.append(
                    (
                        size.beyond(bound)[0],
                        size.within(bound)[0],
                        size.beyond(own)[1],
                        size.within(own)[1],
                    )
                )
        columns = np.array(p).T
        for name, column in zip(
            ("above, layer", "absent, layer", "above, these", "absent, these"), columns
        ):
            said.setdefault(f"{name}: audits", []).append(
                float((adjust(column, "holm") <= 0.05).any())
            )
            said.setdefault(f"{name}: cells", []).append((column <= 0.05).mean())
    return {name: float(np.mean(x)) for name, x in said.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--audits", type=int, default=300)
    options = parser.parse_args()
    head = False
    for experts, reliable in CASES:
        for name, dof in LAWS.items():
            bound = truth(dof)
            found = measured(dof, experts, reliable, options.audits, bound)
            if not head:
                print(f"| law | bound | experts | reliability | audits | {' | '.join(found)} |")
                print("| --- |" + " ---: |" * (len(found) + 4))
                head = True
            row = " | ".join(f"{value:.3f}" for value in found.values())
            told = f"{bound:.2f} | {experts} | {reliable} | {options.audits}"
            print(f"| {name} | {told} | {row} |", flush=True)


if __name__ == "__main__":
    main()
