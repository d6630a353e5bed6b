"""Noise given to `regression`: slopes of the outcome on metrics dealt to other experts.

OMP_NUM_THREADS=1 python -m benchmarks.validity.shuffled_slopes RUN
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import stats

from moeaudit.stats.contrast.slots import Slots
from moeaudit.stats.families.experts import Null, joint_p
from moeaudit.stats.families.slopes import MODELS, slope_null

from .dealt import Dealt, shares, told
from .draws import described


def noise(dealt: Dealt) -> dict[str, float]:
    """Shares of audits with any claim, by model of the regression.

    Documents are asked only of the metrics that experts show, without a correction: claims can so only be
    more than an audit of all metrics gives.
    """
    slots, shuffles = [y.slots for y in dealt.layers], [y.shuffles for y in dealt.layers]
    out = {}
    for model in MODELS:
        every: list[Null] = [
            slope_null(slots, [y.values[m] for y in dealt.layers], shuffles, model)
            for m in range(len(dealt.names))
        ]
        said = []
        for i in range(1, dealt.audits + 1):
            shown = np.flatnonzero(joint_p(dealt.held(every, i)) <= 0.05).tolist()
            p = [
                p_documents(slots, [y.given(m, i)[y.place] for y in dealt.layers], model)
                for m in shown
            ]
            claimed = bool((np.array(p) <= 0.05).any())
            said.append(
                {
                    f"{model}: experts show a metric": len(shown) > 0,
                    f"{model}: claimed": claimed,
                }
            )
        out |= shares(said)
    return out


def p_documents(every: list[Slots], score: list[np.ndarray], model: str) -> float:
    """p of the slope with documents as clusters (CR1, Student's t), from sums by document; every slot
    has an expert and a score, or this is not the regression's."""
    n = every[0].n_documents
    xy, xx, rows = np.zeros(n), np.zeros(n), 0
    for slots, x in zip(every, score):
        use = slots.present & np.isfinite(x)
        count = use.sum(axis=1, keepdims=True)
        x, y = np.where(use, x, 0.0), np.where(use, slots.value, 0.0)
        x = np.where(use, x - x.sum() / use.sum(), 0.0)
        if not x.any():
            continue
        x, y = x / np.sqrt((x**2).sum() / use.sum()), np.where(use, y - y.sum() / use.sum(), 0.0)
        if model == "within_token":
            x, y = (np.where(use, v - v.sum(axis=1, keepdims=True) / count, 0.0) for v in (x, y))
        xy += np.bincount(slots.document, (x * y).sum(axis=1), n)
        xx += np.bincount(slots.document, (x * x).sum(axis=1), n)
        rows += int(use.sum())
    slope = xy.sum() / xx.sum()
    score_of = xy - slope * xx
    se = np.sqrt(n / (n - 1) * (score_of**2).sum()) / xx.sum()
    return float(2 * stats.t.sf(abs(slope) / se, n - 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a finished audit")
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--banks", type=int, default=8, help="sets of 999 deals for the nulls")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    given = (options.audits, options.banks)
    found = {
        name: noise(Dealt(options.run, outcome, *given, seed=options.seed))
        for name, outcome in (("harm", "delta_nll"), ("KL", "kl"))
    }
    print(f"{described(options.run)}; {options.audits} audits; {options.banks} sets of null deals; "
          f"seed {options.seed}\n\n`regression`\n\n{told(found)}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
