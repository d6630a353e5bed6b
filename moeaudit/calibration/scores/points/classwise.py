"""Classwise ECE, streamed: the mean over classes of each class's own ECE."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from moeaudit.errors import InputError

from ...predictions.cells import check_bins, width_bins
from ...predictions.predictions import Predictions


class ClasswiseBins:
    """Bins of equal width of every class's probability, filled batch by batch.

    Kull et al. (2019, arXiv 1910.12656): mean over classes c of sum_b s_cb |freq_cb - conf_cb|. For a
    vocabulary only the `classes x bins` sums are held. A row's probabilities add up to 1, so at most
    `bins` of them reach past the first bin: those are binned, and the first bin is what is left of the
    class totals. Exact, at the cost of one pass over the probabilities.
    """

    def __init__(self, classes: int, bins: int = 15) -> None:
        if classes < 2:
            raise InputError(
                f"{classes} class leaves nothing to be calibrated; at least 2 are needed."
            )
        self.classes, self.bins = classes, check_bins(bins)
        self.weight = 0.0
        self._mass, self._confidence, self._hits = (np.zeros(classes * bins) for _ in range(3))

    def add(
        self,
        probabilities: Float[np.ndarray, "batch classes"],
        label: Int[np.ndarray, " batch"],
        weight: Float[np.ndarray, " batch"] | None = None,
    ) -> None:
        """Take in a batch."""
        if probabilities.shape != (len(label), self.classes):
            raise InputError(
                f"A batch of the shape {probabilities.shape} came with {len(label)} labels; "
                f"{self.classes} classes are counted here."
            )
        w = np.ones(len(label)) if weight is None else weight
        self.weight += float(w.sum())
        size = self.classes * self.bins
        row, column, place = beyond_first(probabilities, self.bins)
        self._mass += np.bincount(place, w[row], size)
        self._confidence += np.bincount(place, w[row] * probabilities[row, column], size)
        own = probabilities[np.arange(len(label)), label]
        self._hits += np.bincount(label * self.bins + width_bins(own, self.bins), w, size)
        first = np.arange(self.classes) * self.bins
        self._mass[first] += w.sum() - np.bincount(column, w[row], self.classes)
        inside = np.bincount(column, w[row] * probabilities[row, column], self.classes)
        self._confidence[first] += w @ probabilities - inside

    def table(self) -> pd.DataFrame:
        """One row per class: `mass` (mean probability), `frequency`, signed `gap`, `ece`; l1."""
        if self.weight <= 0:
            raise InputError("No predictions of positive weight have been added yet.")
        shape = self.classes, self.bins
        confidence, hits = self._confidence.reshape(shape), self._hits.reshape(shape)
        mass, frequency = confidence.sum(1) / self.weight, hits.sum(1) / self.weight
        ece = np.abs(confidence - hits).sum(1) / self.weight
        columns = {"mass": mass, "frequency": frequency, "gap": mass - frequency, "ece": ece}
        return pd.DataFrame({"class": np.arange(self.classes), **columns})

    def score(self, head: int | None = None) -> float:
        """The mean ECE of the `head` classes of most mass and frequency; of all without `head`.

        Thousands of classes that are never predicted nor seen have an ECE of 0 and would bury the rest.
        """
        table = self.table()
        return float(table["ece"].to_numpy()[head_classes(table, head)].mean())


def head_classes(table: pd.DataFrame, head: int | None) -> Int[np.ndarray, " head"]:
    """The classes with the largest mass + frequency, in ascending order."""
    if head is not None and head < 1:
        raise InputError(f"head is {head}; at least 1 class is needed.")
    weight = table["mass"].to_numpy() + table["frequency"].to_numpy()
    return np.sort(np.argsort(-weight, kind="stable")[:head])


def beyond_first(
    probabilities: Float[np.ndarray, "batch classes"], bins: int
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """Row, class and class * bins + bin of every probability that is not in the first bin."""
    row, column = np.nonzero(probabilities >= (1 / bins if bins > 1 else 2.0))
    return row, column, column * bins + width_bins(probabilities[row, column], bins)


def classwise_ece(p: Predictions, bins: int = 15, head: int | None = None) -> float:
    """Classwise ECE of predictions that hold their whole distributions."""
    if p.probabilities is None or p.label is None:
        raise InputError(
            "A classwise ECE needs the probability of every class; make the predictions with "
            "Predictions.from_probabilities."
        )
    sums = ClasswiseBins(p.probabilities.shape[1], bins)
    sums.add(p.probabilities, p.label, p.weights)
    return sums.score(head)
