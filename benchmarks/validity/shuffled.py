"""Audits of metrics that are noise: the run's own metrics dealt to other experts, on its own census.

    OMP_NUM_THREADS=1 python -m benchmarks.validity.shuffled RUN

The effects are real, experts differ, documents cluster as they do; only the metrics know nothing.
`contrast`, and `pooled` over layers; the other questions are in `shuffled_ranks` and `shuffled_slopes`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from moeaudit.stats import get_protocol
from moeaudit.stats.families import families
from moeaudit.stats.families.crossed import d_z_over_experts
from moeaudit.stats.families.experts import Null, joint_p
from moeaudit.stats.families.maxt import max_t
from moeaudit.stats.families.pooled import pool_cells
from moeaudit.stats.sizes.beyond import p_beyond, p_within
from moeaudit.stats.sizes.bounds import Bound
from moeaudit.stats.sizes.equivalence import (
    BELOW,
    EQUIVALENT,
    INCONCLUSIVE,
    OPEN,
    PREDICTIVE,
    REVERSED,
    graded,
)
from moeaudit.stats.sizes.limits import Spread, tost_p
from moeaudit.stats.sizes.moments import CROSS, d_z, jackknife, weighted

from .dealt import Dealt, shares, told
from .draws import cells_of, described

GRID = ("0.1", "0.05", "0.03", "0.01nats", "0.003nats", "100%harm", "50%harm")
POOLED = 0.03
FLIPS = 999
ABOVE = (PREDICTIVE, REVERSED)
SAID = (BELOW, OPEN, *ABOVE)


def noise(dealt: Dealt, by_documents: int, sizes: int) -> dict[str, float]:
    """Share of audits in which experts show a cell. Without one there is no verdict of an effect, whatever
    documents say, so documents and sizes are asked only there, of the first `sizes` such audits ("of these");
    and of the first `by_documents` audits, over documents alone."""
    shown, these, alone = [], [], []
    for i in range(1, dealt.audits + 1):
        p_experts = joint_p(dealt.held(dealt.contrasts, i))
        shown.append({"experts show a cell": bool((p_experts <= 0.05).any())})
        if i <= by_documents:
            alone.append(_verdicts(dealt, i, p_experts, "by documents alone"))
        if shown[-1]["experts show a cell"] and len(these) < sizes:
            these.append(_verdicts(dealt, i, p_experts, "of these"))
    counted = {"these, asked for sizes (number)": float(len(these))}
    return shares(shown) | counted | shares(these) | shares(alone)


def _verdicts(dealt: Dealt, i: int, p_experts: np.ndarray, way: str) -> dict[str, bool]:
    """Any cell called an effect, by bound: by documents and experts ("of these"), or by documents alone."""
    both = way == "of these"
    cells = dealt.cells(i)
    sums = np.stack([_sums(*cell[:2], len(dealt.documents)) for cell in cells])
    p = max_t(sums[:, :, 1].T.copy(), n_flips=FLIPS, seed=i).p_maxt
    means = np.repeat([layer.mean for layer in dealt.layers], len(dealt.names))
    over = p_experts if both else np.full(len(p), np.nan)
    shown = (p <= 0.05) & ((over <= 0.05) | np.isnan(over))
    out = {f"{way}: an effect, whatever its size": bool(shown.any())}
    known = []
    for m in cells_of(sums):
        w, left = weighted(m), jackknife(m, "d_z")
        known.append((float(d_z(w)[0]), Spread.of(left), float(np.sqrt(w.var_difference[0]))))
    parts = {
        k: d_z_over_experts(cells[k][1], *cells[k][::2]) for k in np.flatnonzero(shown) if both
    }
    for name in GRID:
        size = [Bound.parse(name).sizes(sd, mean)[0] for (_, _, sd), mean in zip(known, means)]
        small, beyond = np.ones((2, len(known)))  # 1 where not asked for
        for k in np.flatnonzero(shown):
            around = parts[k].around if both else None
            d, spread, _ = known[k]
            beyond[k] = p_beyond(d, spread, size[k], around=around, least=0.05)
            small[k] = (
                tost_p(d, spread, size[k])
                if around is None
                else p_within(d, spread, size[k], around=around)
            )
        small = families.adjust(small, "holm")
        beyond = families.adjust(beyond, "holm")
        words = {
            graded(
                float(p[k]), float(small[k]), known[k][0], 0.0, 0.0, p_beyond=float(beyond[k]),
                bound=size[k], alpha=0.05, p_experts=float(over[k]),
            )[0]
            for k in np.flatnonzero(shown)
        }  # fmt: skip
        out[f"{way}: {name}, above or open"] = bool(words - {EQUIVALENT, INCONCLUSIVE, BELOW})
        out[f"{way}: {name}, above"] = bool(words & set(ABOVE))
    return out


def _sums(document: np.ndarray, difference: np.ndarray, n_documents: int) -> np.ndarray:
    out = np.zeros((n_documents, CROSS + 2))
    out[:, 0] = np.bincount(document, minlength=n_documents)
    out[:, 1] = np.bincount(document, difference, n_documents)
    out[:, 3] = np.bincount(document, difference**2, n_documents)
    return out


def pooled_noise(dealt: Dealt, sizes: int) -> dict[str, float]:
    """The same of `pooled`: one answer a metric over all layers.

    Documents are asked only of the metrics that experts show, as if these were the whole family: verdicts
    can so only be more than an audit of all metrics gives.
    """
    size = len(dealt.names)
    every = [_mean(dealt.contrasts[m::size]) for m in range(size)]
    said, these = [], []
    recipe = get_protocol("moeaudit").with_(sesoi=POOLED, n_flips=FLIPS)
    for i in range(1, dealt.audits + 1):
        shown = np.flatnonzero(joint_p(dealt.held(every, i)) <= 0.05)
        said.append({"experts show a metric": len(shown) > 0})
        if len(shown) and len(these) < sizes:
            chosen = [k for k in range(len(dealt.contrasts)) if k % size in shown]
            cells = dealt.as_cells(i, dealt.held(dealt.contrasts, i), chosen)
            words = pool_cells(cells, len(dealt.documents), recipe, seed=i)["verdict"]
            found = bool(words.isin(SAID).any())
            above = bool(words.isin(ABOVE).any())
            these.append({"of these: an effect": found, f"of these: {POOLED}, above": above})
    return shares(said) | {"these, asked for sizes (number)": float(len(these))} | shares(these)


def _mean(members: list[Null]) -> Null:
    """Over layers, as `pooled` does it."""
    refused = [x for x in members if x.reason is not None]
    return refused[0] if refused else Null(np.mean([x.statistic for x in members], axis=0), 1.0, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a finished audit")
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--banks", type=int, default=8, help="sets of 999 deals for the nulls")
    parser.add_argument("--documents", type=int, default=20, help="of these, over documents alone")
    parser.add_argument("--sizes", type=int, default=30, help="of those with a claim by experts")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{described(options.run)}; {options.audits} audits, {options.documents} of them over documents "
          f"alone; {options.banks} sets of null deals; seed {options.seed}")  # fmt: skip
    contrasts, means = {}, {}
    for name, outcome in (("harm", "delta_nll"), ("KL", "kl")):
        given = (options.audits, options.banks)
        dealt = Dealt(options.run, outcome, *given, seed=options.seed)
        contrasts[name] = noise(dealt, options.documents, options.sizes)
        means[name] = pooled_noise(dealt, options.sizes)
    print(f"\n`contrast`\n\n{told(contrasts)}\n\n`pooled`\n\n{told(means)}", flush=True)


if __name__ == "__main__":
    main()
