r"""Covariate shift: importance weights from a classifier that tells the two domains apart.

With p(x) the probability that features x are of the target, cross-fitted by documents, the ratio of
densities is

    w(x) = dQ/dP (x) = p(x) / (1 - p(x)) * n_source / n_target

(Bickel, Brueckner & Scheffer 2009). Weights that P(Y | x) does not change are valid only for the
*declared* features x: what the classifier never saw is taken to be equal. Ratios are unbounded, so
they are clipped, and the effective sample size says what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import rankdata

from moeaudit.errors import InputError
from moeaudit.seeds import generator
from moeaudit.stats.least import EFFECTIVE_SIZE

from ..predictions.predictions import Predictions, effective

OFF = 2.0  # the ratios' mean is 1 where the domains overlap
CLIP = 20.0  # no source row counts more than this many times the average one


@dataclass(frozen=True)
class CovariateShift:
    """Weights of the source rows, mean 1, and how far they can be trusted.

    `auc` is that of the cross-fitted domain classifier: 0.5 means that the declared features do
    not differ, near 1 that there is no overlap to weight. `raw_mean` is the mean of the ratios
    before clipping, 1 if the classifier is right. `log_odds` are those of the target rows, for
    weighted conformal sets.
    """

    weight: Float[np.ndarray, " source"]
    target_weight: Float[np.ndarray, " target"]
    features: list[str]
    n_effective: float
    n_clipped: int
    clip: float
    auc: float
    raw_mean: float

    def apply(self, predictions: Predictions) -> Predictions:
        """The source predictions with these weights (times their own, if they had any).

        Raises InputError if fewer than 10 effective predictions are left, or if the ratios'
        mean is off by a factor of two.
        """
        if len(predictions) != len(self.weight):
            raise InputError(
                f"These weights are of {len(self.weight)} source rows and there are "
                f"{len(predictions)} predictions; give the predictions the features were of."
            )
        if not 1 / OFF < self.raw_mean < OFF:
            raise InputError(
                f"The density ratios have the mean {self.raw_mean:.3g} over the source, where 1 is "
                "expected: part of the target lies where the source has no rows (the domains' "
                f"classifier has AUC {self.auc:.3f}), and weights cannot make up for that. Weight by "
                "fewer features, or report the target directly."
            )
        weighted = replace(predictions, weight=predictions.weights * self.weight)
        if weighted.n_effective < EFFECTIVE_SIZE:
            raise InputError(
                f"The importance weights leave an effective sample size of "
                f"{weighted.n_effective:.1f} of {len(predictions)}; at least {EFFECTIVE_SIZE} are "
                "needed. The domains hardly overlap in the declared features (their classifier's "
                f"AUC is {self.auc:.3f}): weight by fewer features, or report the target directly."
            )
        return weighted

    def frame(self) -> pd.DataFrame:
        """One row: features, AUC, effective sample size, clipped rows, raw mean."""
        return pd.DataFrame(
            {
                "features": [", ".join(self.features)],
                "n": [len(self.weight)],
                "n_effective": [self.n_effective],
                "n_clipped": [self.n_clipped],
                "clip": [self.clip],
                "auc": [self.auc],
                "raw_mean": [self.raw_mean],
            }
        )


def covariate_shift(
    source: Any,
    target: Any,
    *,
    features: Sequence[str] | None = None,
    source_document: Any = None,
    target_document: Any = None,
    clip: float | int = CLIP,
    ridge: float | int = 1.0,
    folds: int = 5,
    seed: int = 0,
) -> CovariateShift:
    """Importance weights that make the source look like the target in the declared features.

    Parameters
    ----------
    source, target
        Frames or arrays (rows, features) of the two domains. No labels are needed.
    features
        The columns to use, of frames; all numeric columns if None.
    source_document, target_document
        Whole documents are held out when their rows are predicted; rows if None.
    clip
        Largest weight relative to the mean.
    ridge
        Penalty of the logistic regression on standardised features, in the units of one row.

    Raises InputError for features that are missing or not finite, for fewer documents than folds
    in either domain, and for a clip of 1 or less.
    """
    x, names = _features(source, features, "source")
    z, other = _features(target, features, "target")
    if names != other:
        raise InputError(f"Source features {names} and target features {other} must be the same.")
    if not clip > 1:
        raise InputError(f"clip = {clip} must be larger than 1, the mean of the weights.")
    if folds < 2:
        raise InputError(f"folds = {folds}: cross-fitting needs at least 2.")
    fold = np.concatenate(
        [
            _folds(source_document, len(x), folds, seed, "source"),
            _folds(target_document, len(z), folds, seed, "target"),
        ]
    )
    both = np.concatenate([x, z])
    is_target = np.repeat([False, True], [len(x), len(z)])
    log_ratio = np.empty(len(both))
    for k in range(folds):
        fit, held = fold != k, fold == k
        prior = np.log((~is_target[fit]).sum()) - np.log(is_target[fit].sum())
        log_ratio[held] = _logistic(both[fit], is_target[fit], both[held], float(ridge)) + prior
    ratio = np.exp(np.clip(log_ratio, -50, 50))
    raw = ratio[: len(x)]
    weight, n_clipped = _clipped(raw, float(clip))
    scale = weight.mean()
    return CovariateShift(
        weight=weight / scale,
        target_weight=np.minimum(ratio[len(x) :], float(clip) * raw.mean()) / scale,
        features=names,
        n_effective=effective(weight),
        n_clipped=n_clipped,
        clip=float(clip),
        auc=_auc(log_ratio, is_target),
        raw_mean=float(raw.mean()),
    )


def _clipped(raw: np.ndarray, clip: float) -> tuple[np.ndarray, int]:
    """Ratios no larger than `clip` times their mean, and how many that touched."""
    limit = clip * raw.mean()
    return np.minimum(raw, limit), int((raw > limit).sum())


def _features(table: Any, names: Sequence[str] | None, side: str) -> tuple[np.ndarray, list[str]]:
    if isinstance(table, pd.DataFrame):
        wanted = list(names) if names is not None else [str(c) for c in table.columns]
        missing = [name for name in wanted if name not in table.columns]
        if missing:
            raise InputError(f"The {side} table lacks the features {', '.join(missing)}.")
        values = table[wanted].to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        values = np.asarray(table, dtype=np.float64)
        values = values[:, None] if values.ndim == 1 else values
        wanted = list(names) if names is not None else [f"x{i}" for i in range(values.shape[1])]
    if len(values) == 0 or values.shape[1] == 0 or values.shape[1] != len(wanted):
        raise InputError(
            f"The {side} features have the shape {values.shape}; expected rows by "
            f"{len(wanted) or 'one or more'} features."
        )
    if not np.isfinite(values).all():
        raise InputError(f"Some {side} features are NaN or infinite; they must be finite numbers.")
    return values, wanted


def _folds(document: Any, rows: int, folds: int, seed: int, side: str) -> np.ndarray:
    """The fold of each row; rows of one document share theirs."""
    if document is not None and len(document) != rows:
        raise InputError(f"There are {len(document)} {side} documents for {rows} rows.")
    codes = np.arange(rows) if document is None else pd.factorize(np.asarray(document))[0]
    n = int(codes.max()) + 1
    if n < folds:
        raise InputError(
            f"The {side} domain has {n} document(s); cross-fitting in {folds} folds needs at least "
            f"{folds}. Give more documents or fewer folds."
        )
    order = generator(seed, "folds", side).permutation(n)
    return (np.argsort(order) % folds)[codes]


def _logistic(x: np.ndarray, y: np.ndarray, new: np.ndarray, ridge: float) -> np.ndarray:
    """Log-odds of new rows by logistic regression on standardised features, intercept free."""
    centre, spread = x.mean(axis=0), x.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    a = np.column_stack([(x - centre) / spread, np.ones(len(x))])
    sign = np.where(y, 1.0, -1.0)
    penalty = np.append(np.full(x.shape[1], ridge), 0.0)

    def loss(b: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (a @ b)
        slope = -(sign * expit(-margin)) @ a + penalty * b
        return float(np.logaddexp(0, -margin).sum() + (penalty * b * b).sum() / 2), slope

    found = minimize(
        loss,
        np.zeros(a.shape[1]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 1000, "gtol": 1e-8, "ftol": 1e-14},
    )
    return np.column_stack([(new - centre) / spread, np.ones(len(new))]) @ found.x


def _auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve: the share of (source, target) pairs in the right order."""
    ranks = rankdata(score)
    p, n = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - p * (p + 1) / 2) / (p * n))
