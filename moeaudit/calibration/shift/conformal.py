r"""Conformal sets: split, and weighted for covariate shift, with coverage and size by domain.

A row's score s(x, y) says how badly label y fits: "lac" is 1 - p_y (Sadinle, Lei & Wasserman
2019), "aps" the probability of all classes at least as likely as y (Romano, Sesia & Candes 2020,
without randomisation, so it covers too much rather than too little). The set of a new x is
{y : s(x, y) <= q}, q the (1 - alpha) quantile of the calibration scores with the new point's own
mass at infinity. With weights w = dQ/dP (Tibshirani, Barber, Candes & Ramdas 2019, arXiv
1904.06019) the calibration scores carry w_i / (sum_j w_j + w(x)) and infinity w(x) / (...).

Both take the labelled rows as exchangeable with each other. Tokens of one document are not: the promise
then holds on average, over many calibration sets, and one set may miss it by points. With the
document of every labelled row, documents are exchangeable instead: each carries 1 / (K + 1), shared
by its rows, and infinity 1 / (K + 1) (hierarchical conformal prediction, Lee, Barber & Willett 2023, arXiv
2306.06342; for two layers see Dunn, Wasserman & Ramdas 2023, arXiv 1809.07441). That covers a row of
a new document with 1 - alpha whatever the dependence inside documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from moeaudit.errors import InputError, one_of
from moeaudit.stats.least import EFFECTIVE_SIZE

from ..predictions.columns import classes
from ..predictions.predictions import effective
from ..scores.intervals import mean_limits
from ..scores.resample import Resamples, widening

SCORES = ("lac", "aps")


@dataclass(frozen=True)
class ConformalSets:
    """The sets of the reported rows and what they were made with.

    `threshold` is each row's q; infinite where the calibration scores cannot vouch for 1 - alpha
    (too few of them, or too much weight on the new point), and the set is then everything.
    `exchangeable`: "rows" or "documents", what the promise of 1 - alpha takes as such.
    """

    sets: Bool[np.ndarray, "rows classes"]
    threshold: Float[np.ndarray, " rows"]
    alpha: float
    score: str
    weighted: bool
    n_effective: float
    exchangeable: str = "rows"

    @property
    def size(self) -> Int[np.ndarray, " rows"]:
        return self.sets.sum(axis=1)

    def coverage(
        self,
        label: Any,
        *,
        domain: np.ndarray | None = None,
        document: np.ndarray | None = None,
        draws: int = 1000,
        seed: int = 0,
    ) -> pd.DataFrame:
        """One row per domain and one for all (`whole`): coverage with its interval, and mean set size.

        Intervals are percentile ones over documents (rows if None), widened for few of them. Without labels coverage is
        not estimable; sizes still are.
        """
        rows = len(self.sets)
        domains = np.full(rows, "all") if domain is None else np.asarray(domain).astype(str)
        documents = np.arange(rows) if document is None else np.asarray(document)
        for name, column in (("domain", domains), ("document", documents), ("label", label)):
            if column is not None and len(column) != rows:
                raise InputError(f"There are {len(column)} values of {name} for {rows} sets.")
        if label is not None:
            label = classes(label, self.sets.shape[1])
        covered = None if label is None else self.sets[np.arange(rows), label].astype(float)
        names = [] if domain is None else [str(d) for d in np.unique(domains)]
        table = []
        for name in [*names, None]:
            inside = np.ones(rows, bool) if name is None else domains == name
            table.append(
                {
                    "domain": "all" if name is None else name,
                    "whole": name is None,
                    "n": int(inside.sum()),
                    "alpha": self.alpha,
                    "score": self.score,
                    "weighted": self.weighted,
                    "n_effective": self.n_effective,
                    "exchangeable": self.exchangeable,
                    **_covered(covered, inside, documents, draws, seed),
                    "mean_size": float(self.size[inside].mean()),
                    "share_everything": float(np.isinf(self.threshold[inside]).mean()),
                }
            )
        return pd.DataFrame(table)


def conformal_sets(
    probabilities: Float[np.ndarray, "rows classes"],
    *,
    fit_probabilities: Float[np.ndarray, "fit classes"],
    fit_label: Any,
    alpha: float = 0.1,
    score: str = "lac",
    fit_weight: Float[np.ndarray, " fit"] | None = None,
    weight: Float[np.ndarray, " rows"] | None = None,
    fit_document: np.ndarray | None = None,
) -> ConformalSets:
    """Sets for new rows from labelled rows of other documents.

    Parameters
    ----------
    fit_weight, weight
        dQ/dP of the labelled and of the new rows (`covariate_shift` gives both); give both for
        weighted conformal, neither for split conformal.
    fit_document
        The document of each labelled row, where rows of one document depend on each other: documents
        are then exchangeable, and rows of a new one are covered. Not together with weights.

    Raises InputError for alpha outside (0, 1), an unknown score, one kind of weights without the
    other, and weights with an effective sample size under 10.
    """
    if not 0 < alpha < 1:
        raise InputError(f"alpha = {alpha} must lie strictly between 0 and 1: the share of misses.")
    one_of(score, SCORES, "conformal score")
    if (fit_weight is None) != (weight is None):
        raise InputError(
            "Weighted conformal sets need dQ/dP of the labelled rows and of the new ones; only one "
            "of them was given."
        )
    if len(fit_label) == 0 or len(fit_label) != len(fit_probabilities):
        raise InputError(
            f"There are {len(fit_probabilities)} labelled distributions and {len(fit_label)} "
            "labels; conformal sets need labelled rows, one label each."
        )
    fit_label = classes(fit_label, fit_probabilities.shape[1])
    if fit_document is not None and (fit_weight is not None or len(fit_document) != len(fit_label)):
        raise InputError(
            f"fit_document needs one document for each of the {len(fit_label)} labelled rows "
            f"(got {len(fit_document)}), and no weights beside it: what is promised of documents under "
            "weights is not known."
        )
    have = scores(fit_probabilities, score)[np.arange(len(fit_label)), fit_label]
    if fit_document is not None:
        threshold = document_threshold(have, alpha, fit_document, len(probabilities))
        sets = scores(probabilities, score) <= threshold[:, None]
        k = float(len(np.unique(fit_document)))
        return ConformalSets(sets, threshold, float(alpha), score, False, k, "documents")
    threshold = conformal_threshold(have, alpha, fit_weight, weight, len(probabilities))
    sets = scores(probabilities, score) <= threshold[:, None]
    n_effective = float(len(have)) if fit_weight is None else effective(fit_weight)
    return ConformalSets(sets, threshold, float(alpha), score, weight is not None, n_effective)


def conformal_threshold(
    score: Float[np.ndarray, " fit"],
    alpha: float,
    fit_weight: Float[np.ndarray, " fit"] | None,
    weight: Float[np.ndarray, " rows"] | None,
    rows: int,
) -> Float[np.ndarray, " rows"]:
    """The quantile of the calibration scores for each new row, infinity where there is none.

    Unweighted this is the ceil((n + 1) (1 - alpha))-th smallest score.
    """
    order = np.argsort(score, kind="stable")
    ordered = np.append(score[order], np.inf)
    if fit_weight is None or weight is None:
        # 1e-9: (n + 1) (1 - alpha) that is a whole number must not be rounded up by its last digit.
        place = int(np.ceil((len(score) + 1) * (1 - alpha) - 1e-9)) - 1
        return np.full(rows, ordered[min(max(place, 0), len(score))])
    for name, w in (("labelled", fit_weight), ("new", weight)):
        if not np.isfinite(w).all() or (w < 0).any():
            raise InputError(f"Weights of the {name} rows must be finite and not negative.")
    if effective(fit_weight) < EFFECTIVE_SIZE:
        raise InputError(
            f"The weights of the labelled rows have an effective sample size of "
            f"{effective(fit_weight):.1f}; at least {EFFECTIVE_SIZE} are needed for a quantile."
        )
    mass = np.cumsum(fit_weight[order])
    needed = (1 - alpha) * (mass[-1] + weight)
    place = np.searchsorted(mass, needed * (1 - 1e-12), side="left")
    return ordered[place]


def document_threshold(
    score: Float[np.ndarray, " fit"], alpha: float, document: np.ndarray, rows: int
) -> Float[np.ndarray, " rows"]:
    """The (1 - alpha) quantile of sum_k sum_i delta(s_ki) / (n_k (K + 1)) + delta(infinity) / (K + 1).

    Infinity for fewer than 1 / alpha - 1 documents.
    """
    code = pd.factorize(document)[0]
    share = 1 / np.bincount(code)[code]
    order = np.argsort(score, kind="stable")
    mass = np.cumsum(share[order])
    needed = (1 - alpha) * (np.bincount(code).size + 1)
    place = np.searchsorted(mass, needed * (1 - 1e-12), side="left")
    return np.full(rows, np.append(score[order], np.inf)[place])


def scores(
    probabilities: Float[np.ndarray, "rows classes"], score: str
) -> Float[np.ndarray, "rows classes"]:
    """The conformal score of every class of every row."""
    p = np.asarray(probabilities, dtype=np.float64)
    if score == "lac":
        return 1 - p
    order = np.argsort(-p, axis=1, kind="stable")
    total = np.cumsum(np.take_along_axis(p, order, axis=1), axis=1)
    out = np.empty_like(p)
    np.put_along_axis(out, order, total, axis=1)
    return out


def _covered(
    covered: np.ndarray | None, inside: np.ndarray, documents: np.ndarray, draws: int, seed: int
) -> dict[str, object]:
    """Coverage of some rows with its interval over documents, or the reason why there is none."""
    none = {"coverage": np.nan, "low": np.nan, "high": np.nan}
    if covered is None:
        return {**none, "reason": "no labels in this domain, so coverage is not estimable"}
    code = pd.factorize(documents[inside])[0]
    hits, n = np.bincount(code, covered[inside]), np.bincount(code)
    estimate = float(hits.sum() / n.sum())
    if len(n) < 2:
        return {**none, "coverage": estimate, "reason": "one document: no interval"}
    resamples = Resamples(len(n), draws, seed)
    units = resamples.unit_of
    hits, n = (np.bincount(units, x, minlength=resamples.n_units) for x in (hits, n))
    low, high = mean_limits(
        estimate, resamples.means(hits, n), 0.95, widening(resamples.n_units, 0.95)
    )
    low, high = max(low, 0.0), min(high, 1.0)
    return {"coverage": estimate, "low": low, "high": high, "reason": None}
