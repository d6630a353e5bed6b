r"""Label shift: P(Y) moves and P(X | Y) stays. The target's label marginal without target labels.

Two estimators. *BBSE* (Lipton, Wang & Smola 2018, arXiv 1802.03916) needs no calibration: with
C_ij = P_source(prediction i, label j) and mu_i = P_target(prediction i), the weights
w_j = P_target(j) / P_source(j) solve C w = mu. *EM* (Saerens, Latinne & Decaestecker 2002; maximum
likelihood) is more precise and needs calibrated probabilities: recalibrate first (Alexandari,
Kundaje & Shrikumar 2020, arXiv 1901.06852).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from moeaudit.errors import InputError
from moeaudit.stats.least import EFFECTIVE_SIZE

from ..predictions.columns import classes
from ..predictions.predictions import Predictions

LARGEST_CONDITION = 1e4


@dataclass(frozen=True)
class LabelShift:
    """The two label marginals, the class weights target / source, and how they were found.

    `condition` is the condition number of BBSE's matrix (None for EM); `n_clipped` counts class
    weights that came out negative and were set to 0; `iterations` are EM's.
    """

    method: str
    source: Float[np.ndarray, " classes"]
    target: Float[np.ndarray, " classes"]
    weight: Float[np.ndarray, " classes"]
    condition: float | None = None
    n_clipped: int = 0
    iterations: int | None = None

    def apply(self, predictions: Predictions) -> Predictions:
        """Source predictions weighted by their label's weight.

        Raises InputError without labels, or if fewer than 10 effective predictions are left.
        """
        if predictions.label is None:
            raise InputError(
                "Weights for label shift go by the true label, and these predictions carry none. "
                "Make them with Predictions.from_probabilities(probabilities, label)."
            )
        if int(predictions.label.max()) >= len(self.weight):
            raise InputError(
                f"These predictions have label {int(predictions.label.max())}, and the label "
                f"shift was estimated for the classes 0 to {len(self.weight) - 1}."
            )
        w = predictions.weights * self.weight[predictions.label]
        if not w.any():
            raise InputError(
                "Every prediction is of a class that the target does not have, so all weights are "
                "zero and nothing can be scored."
            )
        weighted = replace(predictions, weight=w)
        if weighted.n_effective < EFFECTIVE_SIZE:
            raise InputError(
                f"The label weights leave an effective sample size of {weighted.n_effective:.1f}; "
                f"at least {EFFECTIVE_SIZE} are needed."
            )
        return weighted

    def adjust(
        self, probabilities: Float[np.ndarray, "rows classes"]
    ) -> Float[np.ndarray, "rows classes"]:
        """Posterior probabilities under the target's marginal: p_k w_k, normalised."""
        p = probabilities * self.weight
        total = p.sum(axis=1, keepdims=True)
        if (total <= 0).any():
            raise InputError(
                f"{int((total <= 0).sum())} row(s) put all their probability on classes the target "
                "is estimated not to have; they have no adjusted distribution."
            )
        return p / total

    def frame(self) -> pd.DataFrame:
        """One row per class: class, source, target, weight."""
        return pd.DataFrame(
            {
                "class": np.arange(len(self.source)),
                "source": self.source,
                "target": self.target,
                "weight": self.weight,
            }
        )


def bbse(
    source_probabilities: Float[np.ndarray, "source classes"],
    source_label: Any,
    target_probabilities: Float[np.ndarray, "target classes"],
    *,
    soft: bool = False,
    largest_condition: float | int = LARGEST_CONDITION,
) -> LabelShift:
    """Black-box shift estimation from a classifier's answers on both domains.

    `source_label` must come from documents the classifier (and its recalibration) was not fitted
    on. With `soft` the rows of C are mean probabilities instead of counts of the top class.

    Raises InputError if a class has no source rows, or if C is singular or worse conditioned than
    `largest_condition`: the classifier then cannot tell some classes apart, and no weights follow.
    """
    p = _probabilities(source_probabilities, "source")
    q = _probabilities(target_probabilities, "target")
    marginal = _source_marginal(p, source_label)
    if q.shape[1] != p.shape[1]:
        raise InputError(f"Source has {p.shape[1]} classes and target {q.shape[1]}.")
    k = p.shape[1]
    p, q = (p, q) if soft else (np.eye(k)[p.argmax(axis=1)], np.eye(k)[q.argmax(axis=1)])
    confusion = p.T @ np.eye(k)[classes(source_label, k)] / len(p)  # (prediction, label)
    condition = float(np.linalg.cond(confusion))
    if not condition <= largest_condition:
        raise InputError(
            f"The confusion matrix has the condition number {condition:.3g}, above "
            f"{largest_condition:g}: the classifier hardly tells some classes apart, so the "
            "label marginal of the target is not identified. Merge those classes, give more "
            "source rows, or use soft=True or the EM estimate with calibrated probabilities."
        )
    weight = np.linalg.solve(confusion, q.mean(axis=0))
    clipped = np.maximum(weight, 0)
    target = clipped * marginal
    target /= target.sum()
    return LabelShift(
        "bbse_soft" if soft else "bbse",
        marginal,
        target,
        target / marginal,
        condition=condition,
        n_clipped=int((weight < 0).sum()),
    )


def em_label_shift(
    source_label: Any,
    target_probabilities: Float[np.ndarray, "target classes"],
    *,
    tolerance: float = 1e-10,
    most: int = 10_000,
) -> LabelShift:
    """The target marginal that makes its probabilities most likely, by EM (Saerens et al. 2002).

    The log-likelihood sum_i log sum_k p_ik w_k is concave in the marginal, so the fixed point is
    the maximum. The probabilities must be calibrated on the source: recalibrate first.

    Raises InputError if a class has no source rows, and if EM has not settled after `most` steps.
    """
    p = _probabilities(target_probabilities, "target")
    marginal = _source_marginal(p, source_label)
    target, ratio, change = marginal.copy(), p / marginal, np.inf
    for step in range(1, most + 1):
        joint = ratio * target
        total = joint.sum(axis=1, keepdims=True)
        if (total <= 0).any():
            raise InputError(
                f"{int((total <= 0).sum())} target row(s) give probability 0 to every class that "
                "is left; recalibrate so that no class has probability exactly 0."
            )
        new = (joint / total).mean(axis=0)
        change = float(np.abs(new - target).sum())
        target = new
        if change < tolerance:
            return LabelShift("em", marginal, target, target / marginal, iterations=step)
    raise InputError(
        f"EM has not settled after {most} steps (last change {change:.1e}). The classes are hardly "
        "distinguishable in the target; allow more steps or a larger tolerance, knowingly."
    )


def _probabilities(values: np.ndarray, side: str) -> np.ndarray:
    p = np.asarray(values, dtype=np.float64)
    if p.ndim != 2 or len(p) == 0 or p.shape[1] < 2:
        raise InputError(
            f"The {side} probabilities have the shape {p.shape}; expected one row or more by two "
            "classes or more. With a single class there is no label shift to estimate."
        )
    if not (np.isfinite(p).all() and (p >= 0).all()) or np.abs(p.sum(axis=1) - 1).max() > 1e-3:
        raise InputError(f"Each row of the {side} probabilities must be a distribution.")
    return p


def _source_marginal(p: np.ndarray, label: np.ndarray) -> np.ndarray:
    k = p.shape[1]
    if len(label) == 0:
        raise InputError(f"Source labels must be there and be class numbers 0 to {k - 1}.")
    label = classes(label, k)
    counts = np.bincount(label, minlength=k)
    if (counts == 0).any():
        empty = ", ".join(map(str, np.flatnonzero(counts == 0)[:5]))
        raise InputError(
            f"The source has no rows of class {empty}, so the target's share of it cannot be "
            "estimated from source labels. Leave the class out or give labelled rows of it."
        )
    return counts / counts.sum()
