"""Audits of metrics that are noise: the run's own metrics dealt to other experts, on its own census.

    OMP_NUM_THREADS=1 python -m benchmarks.validity.shuffled RUN

The effects are real, experts differ, documents cluster as they do; only the metrics know nothing.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from moeaudit.runs.stages import distinct_metrics
from moeaudit.stats.contrast.cells import metric_score, pair
from moeaudit.stats.contrast.slots import Census, Slots
from moeaudit.stats.families import families
from moeaudit.stats.families.crossed import d_z_over_experts
from moeaudit.stats.families.experts import Null, Shuffles, joint_p, nulls
from moeaudit.stats.families.maxt import max_t
from moeaudit.stats.sizes.beyond import p_beyond
from moeaudit.stats.sizes.equivalence import (
    BELOW,
    EQUIVALENT,
    INCONCLUSIVE,
    PREDICTIVE,
    REVERSED,
    graded,
)
from moeaudit.stats.sizes.limits import Spread, adjusted_limits, adjusted_tost
from moeaudit.stats.sizes.moments import CROSS, d_z, jackknife, weighted

from .draws import cells_of, described

GRID = (0.1, 0.05, 0.03)
FLIPS = 999
BEYOND = ": beyond it"


def noise(
    run: Path, outcome: str, audits: int, by_documents: int, seed: int = 0
) -> dict[str, float]:
    """Shares of audits with any claim: by experts, by documents, and verdicts over a grid of bounds
    (effects present but below the bound left out). Audit i has the metrics as shuffle i deals them, and
    other shuffles for its null; the first `by_documents` are tested over documents alone as well."""
    effects = pd.concat([pd.read_parquet(f) for f in sorted((run / "effects").glob("*.parquet"))])
    experts, _ = distinct_metrics(pd.read_parquet(run / "experts.parquet"))
    census = Census(effects, outcome)
    layers: list[_Layer] = []
    bank: list[Null] = []
    other: list[Null] = []
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
        layers.append(_Layer(slots, shuffles, values))
    counts: dict[str, list[bool]] = {}
    for i in range(1, audits + 1):
        p_experts = joint_p([_as_observed(x, i, y) for x, y in zip(bank, other)])
        said = {"experts": bool((p_experts <= 0.05).any())}
        # Without a cell that experts show there is no verdict of an effect, whatever documents say.
        words = [_named(b, "both") + end for b in GRID for end in ("", BEYOND)]
        said |= dict.fromkeys(["both", *words], False)
        if said["experts"] or i <= by_documents:
            cells = [layer.pairs(row, i) for layer in layers for row in range(len(layer.values))]
            sums = np.stack([_sums(*cell[:2], len(census.documents)) for cell in cells])
            p = max_t(sums[:, :, 1].T.copy(), n_flips=FLIPS, seed=i).p_maxt
            said["both"] = bool(((p <= 0.05) & (p_experts <= 0.05)).any())
            alone = i <= by_documents
            if alone:
                said["documents"] = bool((p <= 0.05).any())
            said |= _verdicts(cells, sums, p, p_experts, alone)
        for name, value in said.items():
            counts.setdefault(name, []).append(bool(value))
    return {name: float(np.mean(x)) for name, x in counts.items()}


def _named(bound: float, by: str) -> str:
    return f"a verdict of an effect, bound {bound}, {by}"


@dataclass(frozen=True)
class _Layer:
    """A layer's tokens and its metrics, to be dealt to other experts."""

    slots: Slots
    shuffles: Shuffles
    values: np.ndarray  # (metrics, experts)

    @cached_property
    def place(self) -> np.ndarray:
        return np.searchsorted(self.shuffles.expert, self.slots.expert)

    def pairs(self, metric: int, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Document, difference and pair of experts of each token, the metric as shuffle i deals it."""
        given = _dealt(self.values[metric], self.shuffles, i)
        plain = self.slots.present.all() and len(np.unique(given[np.isfinite(given)])) == len(given)
        if not plain:  # ties and gaps have rules
            score = metric_score(self.slots, self.shuffles.expert, given)
            cell = pair(self.slots, score, "noise", "metric")
            return cell.document, cell.difference, cell.pair
        score, row = given[self.place], np.arange(len(self.place))
        ends = np.stack([score.argmax(axis=1), score.argmin(axis=1)], axis=1)
        value = np.take_along_axis(self.slots.value, ends, axis=1)
        chosen = self.slots.expert[row[:, None], ends]
        return self.slots.document, value[:, 0] - value[:, 1], chosen


def _dealt(values: np.ndarray, shuffles: Shuffles, i: int) -> np.ndarray:
    """A metric as shuffle i deals it; an expert without a value stays without."""
    use, out = np.isfinite(values), values.copy()
    out[use] = values[use][shuffles.among(use)[i]]
    return out


def _as_observed(dealt: Null, i: int, other: Null) -> Null:
    """Deal i as the cell, with shuffles of its own for its null."""
    return replace(other, statistic=np.append(dealt.statistic[i], other.statistic[1:]))


def _sums(document: np.ndarray, difference: np.ndarray, n_documents: int) -> np.ndarray:
    out = np.zeros((n_documents, CROSS + 2))
    out[:, 0] = np.bincount(document, minlength=n_documents)
    out[:, 1] = np.bincount(document, difference, n_documents)
    out[:, 3] = np.bincount(document, difference**2, n_documents)
    return out


def _verdicts(
    cells: list, sums: np.ndarray, p: np.ndarray, p_experts: np.ndarray, alone: bool
) -> dict[str, bool]:
    """Whether any cell is called an effect of whatever size, by bound, by both and, if asked, by documents alone."""
    known = []
    for m in cells_of(sums):
        estimate, left = float(d_z(weighted(m))[0]), jackknife(m, "d_z")
        known.append((estimate, left, *adjusted_limits(estimate, left, 0.95)))
    shown = (p <= 0.05) & (p_experts <= 0.05)
    parts = {i: d_z_over_experts(cells[i][1], *cells[i][::2]) for i in np.flatnonzero(shown)}
    out = {}
    for bound in GRID:
        tost = np.array([adjusted_tost(e, left, bound) for e, left, _, _ in known])
        small = families.adjust(tost, "holm")
        both = [  # 1 where the size is not asked for
            p_beyond(e, Spread.of(left), bound, around=parts[i].around) if i in parts else 1.0
            for i, (e, left, _, _) in enumerate(known)
        ]
        ways = [("both", p_experts, families.adjust(np.array(both), "holm"))]
        if alone:
            these = np.array([p_beyond(e, Spread.of(left), bound) for e, left, _, _ in known])
            ways += [("documents", np.full(len(p), np.nan), families.adjust(these, "holm"))]
        for name, over, beyond in ways:
            words = [
                graded(
                    float(p[i]), float(small[i]), e, low, high, p_beyond=float(beyond[i]),
                    bound=bound, alpha=0.05, p_experts=float(over[i]),
                )[0]
                for i, (e, _, low, high) in enumerate(known)
            ]  # fmt: skip
            out[_named(bound, name)] = any(
                w not in (EQUIVALENT, INCONCLUSIVE, BELOW) for w in words
            )
            out[_named(bound, name) + BEYOND] = any(w in (PREDICTIVE, REVERSED) for w in words)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a finished audit")
    parser.add_argument("--audits", type=int, default=999)
    parser.add_argument("--documents", type=int, default=100, help="of these, over documents alone")
    options = parser.parse_args()
    found = {
        o: noise(options.run, o, options.audits, options.documents) for o in ("delta_nll", "kl")
    }
    print(
        f"{described(options.run)}; {options.audits} audits, {options.documents} over documents alone\n"
    )
    print("| share of audits of noise | harm | KL |\n| --- | ---: | ---: |")
    for name in sorted(found["kl"]):
        print(f"| {name} | {found['delta_nll'][name]:.3f} | {found['kl'][name]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
