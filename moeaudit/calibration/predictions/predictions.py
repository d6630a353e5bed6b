"""What is scored: confidences, whether each was right, and what each belongs to. Checked once."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from moeaudit.errors import InputError
from moeaudit.frames.shown import paragraph, table
from moeaudit.stats.least import EFFECTIVE_SIZE

from .columns import (
    check_classes,
    check_weights,
    classes,
    inside,
    lengths,
    named_classes,
    numbers,
    one_column_of_numbers,
    truth,
)
from .labels import check_texts, ordered, texts

REQUIRED = ("confidence", "correct")


@dataclass(frozen=True, repr=False)
class Predictions:
    """`n` predictions of any model. Arrays are kept as they are; lists, Series and tensors are read as `of` reads them.

    Parameters
    ----------
    confidence
        The probability the model gave its answer, in [0, 1].
    correct
        Whether that answer was right.
    group
        The stratum of each prediction (a domain, an expert, a routing configuration), as text.
    document
        The independent unit each prediction belongs to, as text; without it every prediction is its own.
    weight
        Importance weights, not negative; only their proportions matter.
    probabilities, label
        The whole predictive distribution and the index of the truth, for scores over classes.
    declared
        Strata that must appear in a table even if no prediction is left in them.

    Raises InputError for values that no score can be computed from. What is merely too little (one
    document, an effective sample size under 10) is left to the tables, which say so row by row:
    see `lack`.
    """

    confidence: (
        Float[np.ndarray, " n"] | Any
    )  # arrays once read; Any, since lists and Series are taken as well
    correct: Bool[np.ndarray, " n"] | Any
    group: np.ndarray | Any | None = None
    document: np.ndarray | Any | None = None
    weight: Float[np.ndarray, " n"] | Any | None = None
    probabilities: Float[np.ndarray, "n classes"] | Any | None = None
    label: Int[np.ndarray, " n"] | Any | None = None
    declared: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        _read(self)
        for name in ("group", "document"):
            object.__setattr__(self, name, check_texts(getattr(self, name), name))
        _check(self)

    def __len__(self) -> int:
        return len(self.confidence)

    def __repr__(self) -> str:
        weight = self.weights
        units = (
            f"{self.n_documents:,} documents" if self.document is not None else "no documents named"
        )
        groups = "" if self.group is None else f", {len(self.groups()):,} groups"
        classes = "" if self.probabilities is None else f", {self.probabilities.shape[1]:,} classes"
        confident, right = (
            float(np.average(x, weights=weight)) for x in (self.confidence, self.correct)
        )
        return (
            f"{len(self):,} predictions ({units}{groups}{classes}): confident {confident:.3f}, right {right:.3f}, "
            f"gap {confident - right:+.3f}"
            + (f"; weighted, worth {self.n_effective:,.0f}" if self.weight is not None else "")
        )

    def _repr_html_(self) -> str:
        """The sentence, and the same for each group."""
        if self.group is None:
            return paragraph(repr(self))
        by: Any = pd.DataFrame(
            {"group": self.group, "confidence": self.confidence, "correct": self.correct}
        ).groupby("group", sort=False)
        shown: Any = by.mean().assign(predictions=by.size()).reset_index()
        weighted = " (groups unweighted)" if self.weight is not None else ""
        return paragraph(f"{self!r}{weighted}") + table(shown, most=20)

    @classmethod
    def of(
        cls,
        confidence: Any,
        correct: Any,
        group: Any = None,
        document: Any = None,
        weight: Any = None,
        probabilities: Any = None,
        label: Any = None,
    ) -> Predictions:
        """From anything that becomes an array: lists, Series, tensors, 0/1 or words for false/true.

        Groups and documents are names: whatever they are, they are kept as text.
        """
        declared: tuple[Any, ...] = ()
        if isinstance(group, pd.Series) and isinstance(group.dtype, pd.CategoricalDtype):
            declared = tuple(texts(group.cat.categories, "group").tolist())
        p = None if probabilities is None else numbers(probabilities, "probabilities")
        if (p is None) != (label is None):
            raise InputError("Probabilities and labels go together; give both or neither.")
        columns = {
            "correct": truth(correct),
            "group": None if group is None else texts(group, "group"),
            "document": None if document is None else texts(document, "document"),
            "weight": None if weight is None else one_column_of_numbers(weight, "weight"),
            "probabilities": p,
            "label": None if p is None else classes(label, p.shape[-1]),
        }
        values = one_column_of_numbers(confidence, "confidence")
        lengths(len(values), columns)
        return cls(values, **columns, declared=declared)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        confidence: str = "confidence",
        correct: str = "correct",
        group: str | None = "group",
        document: str | None = "document",
        weight: str | None = "weight",
    ) -> Predictions:
        """From a table. The first two columns must be there; the others are used if they are.

        Categories without rows in a categorical group column stay declared: the tables list them
        as not estimable.
        """
        missing = [c for c in (confidence, correct) if c not in frame.columns]
        if missing:
            raise InputError(
                f"The table of predictions lacks the column{'s' * (len(missing) > 1)} "
                f"{', '.join(missing)}. It has {', '.join(map(str, frame.columns)) or 'none'}; it "
                "needs a confidence in [0, 1] and whether the prediction was correct. Name your "
                "columns if they are called otherwise."
            )

        def column(name: str | None) -> Any:
            return None if name is None or name not in frame.columns else frame[name]

        return cls.of(
            frame[confidence], frame[correct], column(group), column(document), column(weight)
        )

    @classmethod
    def from_probabilities(
        cls,
        probabilities: Any,
        label: Any,
        group: Any = None,
        document: Any = None,
        weight: Any = None,
    ) -> Predictions:
        """From whole distributions: the confidence is the largest, the answer its class.

        `label` is the place of the true class among the columns, as a number or as its text; letters
        are looked up among the names of the columns if `probabilities` is a DataFrame.
        """
        p, label = numbers(probabilities, "probabilities"), named_classes(probabilities, label)
        if p.ndim != 2 or p.shape[1] < 2:
            raise InputError(
                f"Probabilities have the shape {p.shape}; a table of n predictions by at least 2 "
                "classes is needed. For a single probability of being right use Predictions.of."
            )
        y, top = classes(label, p.shape[1]), p.argmax(axis=1)
        lengths(len(p), {"label": y})
        return cls.of(p[np.arange(len(p)), top], top == y, group, document, weight, p, y)

    def take(self, rows: np.ndarray) -> Predictions:
        """The predictions where `rows` is true, or those numbered by `rows`."""
        parts: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        declared = parts.pop("declared")
        kept: dict[str, Any] = {k: None if v is None else v[rows] for k, v in parts.items()}
        return Predictions(**kept, declared=declared)

    @cached_property
    def weights(self) -> Float[np.ndarray, " n"]:
        """The weights, ones if none were given."""
        return np.ones(len(self)) if self.weight is None else self.weight.astype(np.float64)

    @cached_property
    def documents(self) -> Int[np.ndarray, " n"]:
        """Documents numbered 0, 1, ... in order of first appearance."""
        if self.document is None:
            return np.arange(len(self))
        return pd.factorize(self.document)[0].astype(np.int64)

    @cached_property
    def n_documents(self) -> int:
        """The number of documents."""
        return int(self.documents.max()) + 1

    @property
    def n_effective(self) -> float:
        """Kish's effective sample size, (sum w)^2 / sum w^2."""
        return effective(self.weights)

    @cached_property
    def effective_documents(self) -> float:
        """Kish's number of documents, from the mean weight of each one's predictions.

        Without weights, however long the documents, it is their number.
        """
        w = self.weights
        if (w == w[0]).all():
            return float(self.n_documents)
        return effective(np.bincount(self.documents, w) / np.bincount(self.documents))

    @property
    def counted_documents(self) -> float:
        """The documents that an interval's width counts: all, or Kish's number where under half count.

        Up to there whole weights are copies of rows to the last digit.
        """
        kish = self.effective_documents
        return kish if kish < self.n_documents / 2 else float(self.n_documents)

    def groups(self) -> list[Any]:
        """The strata: the declared ones in their order, then any others, numbers by size."""
        found = [] if self.group is None else ordered(list(dict.fromkeys(self.group.tolist())))
        return [*self.declared, *(g for g in found if g not in set(self.declared))]

    def lack(self, documents: int = 2) -> str | None:
        """Why no score can be given of these predictions, or None if it can."""
        if self.n_effective < EFFECTIVE_SIZE:
            return (
                f"an effective sample size of {self.n_effective:.1f} "
                f"({len(self)} predictions); at least {EFFECTIVE_SIZE} are needed"
            )
        # A whole weight on one document is 1 up to rounding, and rounding is no document.
        if self.effective_documents < documents - 1e-9:
            count = f"{self.n_documents} document"
            if self.n_documents > 1:
                count = f"the weights leave {self.effective_documents:.1f} documents of {self.n_documents}"
            return (
                f"{count}: predictions of one document are not independent, "
                "so no interval can be given"
            )
        return None


def effective(weights: np.ndarray) -> float:
    """Kish's effective sample size; 0 where all weights are 0."""
    squares = float((weights**2).sum())
    return float(weights.sum() ** 2 / squares) if squares > 0 else 0.0


def _read(p: Predictions) -> None:
    """What is no array yet (a list, a Series, a tensor), read as `of` reads it."""
    readers: dict[str, Any] = {
        "confidence": lambda values: one_column_of_numbers(values, "confidence"),
        "correct": truth,
        "weight": lambda values: one_column_of_numbers(values, "weight"),
        "probabilities": lambda values: numbers(values, "probabilities"),
    }
    for name, read in readers.items():
        values = getattr(p, name)
        if not isinstance(values, np.ndarray) and (values is not None or name in REQUIRED):
            object.__setattr__(p, name, read(values))
    if p.label is not None and p.probabilities is not None and not isinstance(p.label, np.ndarray):
        object.__setattr__(p, "label", classes(p.label, p.probabilities.shape[-1]))
    for name in ("group", "document"):
        values = getattr(p, name)
        if values is not None and not isinstance(values, np.ndarray):
            object.__setattr__(p, name, texts(values, name))


def _check(p: Predictions) -> None:
    n = len(p.confidence)
    if n == 0:
        raise InputError(
            "There are no predictions, so there is nothing to score. At least one row with a "
            "confidence and whether it was correct is needed."
        )
    names = ("correct", "group", "document", "weight", "probabilities", "label")
    lengths(n, {name: getattr(p, name) for name in names})
    inside(p.confidence, "confidence")
    if p.weight is not None:
        check_weights(p.weight)
    if (p.probabilities is None) != (p.label is None):
        raise InputError("Probabilities and labels go together; give both or neither.")
    if p.probabilities is not None and p.label is not None:
        check_classes(p.probabilities)
        classes(p.label, p.probabilities.shape[1])
