"""Vector scaling: one factor and one offset for each class (Guo et al. 2017, arXiv 1706.04599)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize

from moeaudit.errors import InputError

from .temperature.fit import log_softmax
from .temperature.temperature import checked_labels


@dataclass(frozen=True)
class VectorScaling:
    """New logits are `factor * logits + offset`, class by class; the top class may change.

    Losses are mean nats on the rows of the fit.
    """

    factor: Float[np.ndarray, " classes"]
    offset: Float[np.ndarray, " classes"]
    n: int
    nll_before: float
    nll_after: float

    def log_probabilities(
        self, logits: Float[np.ndarray, "rows classes"]
    ) -> Float[np.ndarray, "rows classes"]:
        return log_softmax(logits.astype(np.float64) * self.factor + self.offset)


def fit_vector(
    logits: Float[np.ndarray, "rows classes"],
    label: Any,
    *,
    weight: Float[np.ndarray, " rows"] | None = None,
    ridge: float | int = 0.0,
) -> VectorScaling:
    """Maximum likelihood over factors and offsets, from the identity, by L-BFGS.

    The loss is convex. Unlike a temperature it needs the logits themselves: log-probabilities
    differ from them by a constant in each row, which class-wise factors do not leave alone.
    `ridge` is a penalty per row on the distance from the identity; classes without a single
    label need one, since their offset would otherwise go to minus infinity.

    Raises InputError for fewer rows than twice the number of classes (a vocabulary): use a
    temperature there. Also for labels that leave out a class when there is no ridge.
    """
    label = checked_labels(logits, label)
    rows, classes = logits.shape
    if rows < 2 * classes:
        raise InputError(
            f"Vector scaling has {2 * classes} parameters for {classes} classes and there are "
            f"{rows} rows. Give at least {2 * classes} rows, or use a temperature."
        )
    counts = np.bincount(label, minlength=classes)
    if ridge <= 0 and (counts == 0).any():
        raise InputError(
            f"{int((counts == 0).sum())} of {classes} classes have no label, so their offset is "
            "not identified. Give ridge > 0, or merge classes, or use a temperature."
        )
    z = logits.astype(np.float64)
    w = np.ones(rows) if weight is None else np.asarray(weight, dtype=np.float64)
    if len(w) != rows or not np.isfinite(w).all() or (w < 0).any() or w.sum() <= 0:
        raise InputError("Weights must be one per row, finite, not negative and not all zero.")
    w = w / w.sum()
    truth = np.zeros((rows, classes))
    place = np.arange(rows)
    truth[place, label] = 1.0

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        log_p = log_softmax(z * theta[:classes] + theta[classes:])
        slope = (np.exp(log_p) - truth) * w[:, None]
        away = theta - start
        grad = np.concatenate([(slope * z).sum(axis=0), slope.sum(axis=0)]) + ridge * away
        return float(-w @ log_p[place, label] + ridge * (away @ away) / 2), grad

    start = np.concatenate([np.ones(classes), np.zeros(classes)])
    found = minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 2000, "maxfun": 4000, "gtol": 1e-9, "ftol": 1e-15},
    )
    factor, offset = found.x[:classes], found.x[classes:]
    before = float(-w @ log_softmax(z)[place, label])
    after = float(-w @ log_softmax(z * factor + offset)[place, label])
    # A constant added to all offsets changes nothing; fix it.
    return VectorScaling(factor, offset - offset.mean(), rows, before, after)
