"""What may be said of differences: tests over a family of cells, smallness as a claim of its own, and when to be
silent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ..contrast.checks import positive
from ..families.families import adjust
from ..families.maxt import max_t
from ..few import too_few
from ..sizes import equivalence
from ..sizes.beyond import p_beyond
from ..sizes.equivalence import graded
from ..sizes.limits import Spread, tost_p
from .columns import Difference

A_MORE, B_MORE = "larger in A", "larger in B"
OPEN, BELOW, ALIKE = "differ, size open", "differ, but by less", "alike"
INCONCLUSIVE, TOO_FEW, NOT_ESTIMABLE = (
    equivalence.INCONCLUSIVE,
    equivalence.TOO_FEW,
    equivalence.NOT_ESTIMABLE,
)
SAME = "the same numbers"
# verdict: what it says
VERDICTS = {
    A_MORE: "larger in A by more than the smallest difference of interest; corrected over the family",
    B_MORE: "larger in B by more than the smallest difference of interest; corrected over the family",
    OPEN: "there is a difference, and it is not shown to be above or below the smallest one of interest",
    BELOW: "there is a difference, and it is smaller than the smallest one of interest",
    ALIKE: "no difference is shown, and any is smaller than the smallest one of interest",
    INCONCLUSIVE: "the data can neither show a difference nor rule one out",
    TOO_FEW: "documents, or what carries the difference in them, are below the measured limits of a verdict",
    SAME: "both sides hold the same sums for every document: the difference is 0.0, and nothing is claimed",
    NOT_ESTIMABLE: "no number can be given",
}
SHOWN = (A_MORE, B_MORE, OPEN, BELOW)
_SAID = {
    equivalence.PREDICTIVE: A_MORE,
    equivalence.REVERSED: B_MORE,
    equivalence.OPEN: OPEN,
    equivalence.BELOW: BELOW,
    equivalence.EQUIVALENT: ALIKE,
}
FLIPS = 5_000


@dataclass(frozen=True)
class Judged:
    """Per cell of one difference: p on its own, p corrected over the family (NaN where nothing was tested), the
    verdict, and why documents were too few (None where they were not)."""

    p: Float[np.ndarray, " cells"]
    p_corrected: Float[np.ndarray, " cells"]
    verdict: list[str]
    too_few: list[str | None]


def judged(
    family: Sequence[Difference],
    *,
    bound: float | None,
    alpha: float = 0.05,
    seed: int = 0,
    n_flips: int = FLIPS,
) -> list[Judged]:
    """Verdicts of all cells of all differences of one family.

    `bound`: the smallest difference of interest, in the outcome's units; None judges no sizes.

    Where every side read the same documents, whole documents' scores are flipped, in all cells at once, and p is
    corrected by step-down max-T (`families.maxt`). Otherwise nothing can be flipped, p is what the limits leave
    (`beyond.p_beyond` of 0) and Holm corrects it. That a difference is beyond the bound, or within it, are tests of
    their own, each corrected by Holm. A cell with too few documents for a verdict (`few.too_few`, of either side and of
    what documents add to the difference) gets none, and counts as p = 1.
    """
    if bound is not None:
        positive(bound, "The smallest difference of interest (sesoi)")
    few = [[_few(each, cell) for cell in range(len(each.value))] for each in family]
    use = [
        np.array([why is None for why in whys], bool) & ~each.same & np.isfinite(each.low)
        for each, whys in zip(family, few)
    ]
    spreads = [
        [Spread.of(each.left[each.there[:, c], c]) if u[c] else None for c in range(len(u))]
        for each, u in zip(family, use)
    ]
    p, corrected = _documents(family, use, spreads, alpha, seed, n_flips)
    beyond = within = [np.full(len(d.value), np.nan) for d in family]
    if bound is not None:
        beyond, within = (
            _holm([_each(d, s, bound, test) for d, s in zip(family, spreads)])
            for test in (p_beyond, tost_p)
        )
    out = []
    for i, each in enumerate(family):
        said = [
            _verdict(each, c, few[i][c], corrected[i][c], within[i][c], beyond[i][c], bound, alpha)
            for c in range(len(each.value))
        ]
        out.append(Judged(p[i], corrected[i], said, few[i]))
    return out


def _verdict(
    each: Difference,
    cell: int,
    few: str | None,
    p: float,
    within: float,
    beyond: float,
    bound: float | None,
    alpha: float,
) -> str:
    value, low, high = float(each.value[cell]), float(each.low[cell]), float(each.high[cell])
    if not np.isfinite(value):
        return NOT_ESTIMABLE
    if each.same[cell]:
        return SAME
    if few is not None:
        return TOO_FEW
    if not np.isfinite(low):
        return NOT_ESTIMABLE
    said, _ = graded(
        float(p), float(within), value, low, high, bound=bound, alpha=alpha, p_beyond=float(beyond)
    )  # fmt: skip
    return _SAID.get(said, said)


def _few(each: Difference, cell: int) -> str | None:
    """Why a cell has too few documents, on either side or in what they add to the difference."""
    if each.same[cell]:
        return None
    for name, side in (("A", each.a), ("B", each.b)):
        if why := too_few(side.total[:, cell], side.count[:, cell]):
            return f"{name}: {why}"
    both = each.there[:, cell].astype(float)
    return too_few(each.scores[:, cell], both)


def _documents(
    family: Sequence[Difference],
    use: list[np.ndarray],
    spreads: list[list[Spread | None]],
    alpha: float,
    seed: int,
    n_flips: int,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """p by documents of each cell, on its own and corrected over the family."""
    ends = np.cumsum([len(d.value) for d in family])[:-1]
    documents = {d.scores.shape[0] for d in family}
    if all(d.paired for d in family) and len(documents) == 1:
        scores = np.concatenate([d.scores for d in family], axis=1)
        kept = np.concatenate(use)
        p, corrected = np.full(len(kept), np.nan), np.full(len(kept), np.nan)
        if kept.any():
            found = max_t(scores[:, kept], n_flips=n_flips, alpha=alpha, seed=seed)
            p[kept], corrected[kept] = found.p_flip, found.p_maxt
        return np.split(p, ends), np.split(corrected, ends)
    single = [_each(d, s, 0.0, p_beyond) for d, s in zip(family, spreads)]
    return single, _holm(single)


def _each(
    difference: Difference,
    spreads: list[Spread | None],
    bound: float,
    test: Callable[[float, Spread, float], float],
) -> np.ndarray:
    """`test(estimate, spread, bound)` of every cell that has a spread; NaN for the others."""
    p = np.full(len(spreads), np.nan)
    for cell, spread in enumerate(spreads):
        if spread is not None and spread.se > 0:
            p[cell] = test(float(difference.value[cell]), spread, bound)
    return p


def _holm(p: list[np.ndarray]) -> list[np.ndarray]:
    """Holm's correction over all cells of all differences."""
    ends = np.cumsum([len(each) for each in p])[:-1]
    return np.split(adjust(np.concatenate(p), "holm"), ends)
