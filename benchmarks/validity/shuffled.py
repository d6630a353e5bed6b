"""Audits of metrics that are noise: the run's own metrics dealt to other experts, on its own census.

    OMP_NUM_THREADS=1 python -m benchmarks.validity.shuffled RUN

The effects are real, experts differ, documents cluster as they do; only the metrics know nothing.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from moeaudit.runs.stages import distinct_metrics
from moeaudit.stats.contrast.cells import metric_score, pair
from moeaudit.stats.contrast.slots import Census
from moeaudit.stats.families import families
from moeaudit.stats.families.experts import Null, Shuffles, joint_p, nulls
from moeaudit.stats.families.maxt import max_t
from moeaudit.stats.sizes.bootstrap import leave_one_out
from moeaudit.stats.sizes.equivalence import BELOW, EQUIVALENT, INCONCLUSIVE, graded
from moeaudit.stats.sizes.limits import adjusted_limits, adjusted_tost
from moeaudit.stats.sizes.moments import CROSS, d_z, weighted

from .draws import cells_of, described

GRID = (0.1, 0.05, 0.03)
FLIPS = 999


def noise(
    run: Path, outcome: str, audits: int, by_documents: int, seed: int = 0
) -> dict[str, float]:
    """Shares of audits with any claim: by experts, by documents, and verdicts over a grid of bounds
    (effects present but below the bound left out). Audit i has the metrics as shuffle i deals them, and
    other shuffles for its null; the first `by_documents` are tested over documents as well."""
    effects = pd.concat([pd.read_parquet(f) for f in sorted((run / "effects").glob("*.parquet"))])
    experts, _ = distinct_metrics(pd.read_parquet(run / "experts.parquet"))
    census = Census(effects, outcome)
    layers, bank, other = [], [], []
    for layer in census.layers:
        slots = census.slots(layer)
        shuffles = Shuffles.of(slots, 999, seed + 1)
        wide = experts[experts["layer"] == layer].pivot(
            index="metric", columns="expert", values="value"
        )
        values = wide.reindex(columns=shuffles.expert).to_numpy(float)
        part = np.zeros(len(slots.document), dtype=np.int64)
        bank += nulls(slots, [values], part, shuffles)
        other += nulls(slots, [values], part, Shuffles.of(slots, 999, seed + 2))
        layers.append((slots, shuffles, values))
    counts: dict[str, list[bool]] = {}
    for i in range(1, audits + 1):
        p_experts = joint_p([_as_observed(x, i, y) for x, y in zip(bank, other)])
        said = {"experts": bool((p_experts <= 0.05).any())}
        if i <= by_documents:
            sums = np.stack(
                [
                    _sums(slots, shuffles.expert, _dealt(row, shuffles, i), len(census.documents))
                    for slots, shuffles, values in layers
                    for row in values
                ]
            )
            p = max_t(sums[:, :, 1].T.copy(), n_flips=FLIPS, seed=i).p_maxt
            said["documents"] = bool((p <= 0.05).any())
            said["both"] = bool(((p <= 0.05) & (p_experts <= 0.05)).any())
            said |= _verdicts(sums, p, p_experts)
        for name, value in said.items():
            counts.setdefault(name, []).append(bool(value))
    return {name: float(np.mean(x)) for name, x in counts.items()}


def _dealt(values: np.ndarray, shuffles: Shuffles, i: int) -> np.ndarray:
    """A metric as shuffle i deals it; an expert without a value stays without."""
    use, out = np.isfinite(values), values.copy()
    out[use] = values[use][shuffles.among(use)[i]]
    return out


def _as_observed(dealt: Null, i: int, other: Null) -> Null:
    """Deal i as the cell, with shuffles of its own for its null."""
    return replace(other, statistic=np.append(dealt.statistic[i], other.statistic[1:]))


def _sums(slots, expert: np.ndarray, values: np.ndarray, n_documents: int) -> np.ndarray:
    cell = pair(slots, metric_score(slots, expert, values), "noise", "metric")
    out = np.zeros((n_documents, CROSS + 2))
    out[:, 0] = np.bincount(cell.document, minlength=n_documents)
    out[:, 1] = np.bincount(cell.document, cell.difference, n_documents)
    out[:, 3] = np.bincount(cell.document, cell.difference**2, n_documents)
    return out


def _verdicts(sums: np.ndarray, p: np.ndarray, p_experts: np.ndarray) -> dict[str, bool]:
    """Whether any cell is called an effect of whatever size, by bound, by documents alone and by both."""
    cells = []
    for m in cells_of(sums):
        estimate, left = float(d_z(weighted(m))[0]), d_z(weighted(m, leave_one_out(m.present)))
        cells.append((estimate, left, *adjusted_limits(estimate, left, 0.95)))
    out = {}
    for bound in GRID:
        tost = np.array([adjusted_tost(e, left, bound) for e, left, _, _ in cells])
        small = families.adjust(tost, "holm")
        for name, over in (("documents", np.full(len(p), np.nan)), ("both", p_experts)):
            words = [
                graded(
                    float(p[i]), float(small[i]), e, low, high,
                    bound=bound, alpha=0.05, p_experts=float(over[i]),
                )[0]
                for i, (e, _, low, high) in enumerate(cells)
            ]  # fmt: skip
            sized = [w for w in words if w not in (EQUIVALENT, INCONCLUSIVE, BELOW)]
            out[f"a verdict of an effect, bound {bound}, {name}"] = bool(sized)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a finished audit")
    parser.add_argument("--audits", type=int, default=999)
    parser.add_argument("--documents", type=int, default=100, help="of these, also over documents")
    options = parser.parse_args()
    found = {
        o: noise(options.run, o, options.audits, options.documents) for o in ("delta_nll", "kl")
    }
    print(
        f"{described(options.run)}; {options.audits} audits, {options.documents} over documents\n"
    )
    print("| share of audits of noise | harm | KL |\n| --- | ---: | ---: |")
    for name in found["kl"]:
        print(f"| {name} | {found['delta_nll'][name]:.3f} | {found['kl'][name]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
