"""A family of tests: which hypotheses stand together, and the corrections over them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from moeaudit.errors import InputError, one_of

# Our names for statsmodels' methods. Error controlled: family-wise for the first three (Hochberg
# under positive dependence), false discovery rate for the last two (BH under positive dependence).
METHODS = {
    "bonferroni": "bonferroni",
    "holm": "holm",
    "hochberg": "simes-hochberg",
    "bh": "fdr_bh",
    "by": "fdr_by",
}


@dataclass(frozen=True)
class Family:
    """A declared family: its name, its cells in order, and the error rate it is held to.

    A cell that turns out not to be estimable stays in the family and counts as p = 1, since it was
    declared before anything was seen.
    """

    name: str
    cells: tuple[tuple[object, ...], ...]
    alpha: float = 0.05
    single: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha is {self.alpha}; it must lie strictly between 0 and 1.")
        if len(set(self.cells)) != len(self.cells):
            raise InputError(f"The family {self.name!r} names a cell more than once.")
        if not self.cells:
            raise InputError(f"The family {self.name!r} has no cells.")
        if len(self.cells) == 1 and not self.single:
            raise InputError(
                f"The family {self.name!r} has one cell, so there is nothing to correct for and a "
                "corrected p would only look stricter than it is. Declare every test you will "
                "look at, or pass single=True to say that it truly is the only one."
            )

    def __len__(self) -> int:
        return len(self.cells)


def check_family(family: Family, tested: list[tuple[object, ...]]) -> None:
    """Refuse a table whose cells are not the declared ones: its corrections would be others."""
    missing = [c for c in family.cells if c not in tested]
    extra = [c for c in tested if c not in family.cells]
    if missing or extra:
        raise InputError(
            f"The family {family.name!r} declares {len(family)} cells, and {len(tested)} are tested"
            + (f"; declared but not tested: {missing[:3]}" if missing else "")
            + (f"; tested but not declared: {extra[:3]}" if extra else "")
            + ". Test exactly what was declared, or leave the family out (exploratory)."
        )


def adjust(p: Float[np.ndarray, " cells"], method: str) -> Float[np.ndarray, " cells"]:
    """Adjusted p-values over a family; NaN (not estimable) counts as 1 and stays NaN.

    `method`: bonferroni, holm, hochberg (family-wise error), bh, by (false discovery rate).
    """
    one_of(method, METHODS, "correction")
    if len(p) == 0:
        return p
    missing = np.isnan(p)
    if ((p < 0) | (p > 1)).any():
        raise InputError(
            "A p-value lies outside 0 to 1; corrections are of p-values, not of others."
        )
    full = np.where(missing, 1.0, p)
    if method == "holm":
        adjusted = _holm(full)
    else:
        from statsmodels.stats.multitest import multipletests  # slow to import, seldom needed

        adjusted = np.asarray(multipletests(full, method=METHODS[method])[1])
    return np.where(missing, np.nan, adjusted)


def _holm(p: np.ndarray) -> np.ndarray:
    """Holm (1979). statsmodels' own collects garbage on every call, which takes a tenth of a second
    beside a loaded model; the tests hold the two equal."""
    order = np.argsort(p, kind="stable")
    out = np.empty(len(p))
    out[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return out
