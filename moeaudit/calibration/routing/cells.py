"""The cells of a routing table: a group of tokens within a range of confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError
from moeaudit.stats.least import DOCUMENTS_FOR_LIMITS, EFFECTIVE_SIZE

from ..predictions.predictions import Predictions

ALL = "all"


@dataclass(frozen=True)
class Cell:
    grouping: str
    group: str
    bin: str
    low: float
    high: float
    rows: np.ndarray


def check(
    predictions: Predictions, groups: Mapping[str, Any], bins: Sequence[float | int], alpha: float
) -> None:
    if not groups:
        raise InputError(
            "There are no groupings. Give at least one, a label for each prediction, such as the "
            "top-1 expert of a layer."
        )
    for name, labels in groups.items():
        if len(labels) != len(predictions):
            raise InputError(
                f"The grouping {name!r} has {len(labels)} labels for {len(predictions)} "
                "predictions; every prediction needs one."
            )
        if pd.isna(np.asarray(labels, dtype=object)).any():
            raise InputError(f"The grouping {name!r} has missing labels; give every token one.")
    edges = np.asarray(bins, dtype=float)
    if len(edges) < 2 or (np.diff(edges) <= 0).any() or edges[0] != 0 or edges[-1] != 1:
        raise InputError(f"Confidence bins must ascend from 0 to 1; got {tuple(bins)}.")
    if not 0 < alpha < 1:
        raise InputError(f"alpha = {alpha} must lie strictly between 0 and 1.")


def bin_of(confidence: np.ndarray, bins: Sequence[float | int]) -> np.ndarray:
    """Place of each confidence's range; ranges are (low, high], the first holds 0 too."""
    return np.maximum(np.searchsorted(bins, confidence, side="left") - 1, 0)


def group_cells(
    predictions: Predictions, groups: Mapping[str, Any], bins: Sequence[float | int]
) -> list[Cell]:
    """Every group with every range of confidence, whether it holds rows or not."""
    place = bin_of(predictions.confidence, bins)
    cells = []
    for grouping, labels in groups.items():
        names, code = np.unique(np.asarray(labels).astype(str), return_inverse=True)
        for k, name in enumerate(names):
            inside = np.flatnonzero(code == k)
            cells.append(Cell(grouping, str(name), ALL, 0.0, 1.0, inside))
            for b, (low, high) in enumerate(zip(bins, bins[1:])):
                rows = inside[place[inside] == b]
                cells.append(
                    Cell(grouping, str(name), f"({low:g}, {high:g}]", float(low), float(high), rows)
                )
    return cells


def lack_of(predictions: Predictions, rows: np.ndarray, min_size: int) -> str | None:
    """Why a cell of these rows cannot be tested; weighted documents count by Kish's number."""
    if len(rows) < min_size or len(rows) == 0:
        return f"{len(rows)} tokens, fewer than {max(min_size, 1)}"
    if not predictions.weights[rows].any():
        return f"an effective sample size of 0.0, under {EFFECTIVE_SIZE}"
    cell = predictions.take(rows)
    if cell.n_documents < DOCUMENTS_FOR_LIMITS:
        return f"{cell.n_documents} document(s), fewer than {DOCUMENTS_FOR_LIMITS}"
    if cell.n_effective < EFFECTIVE_SIZE:
        return f"an effective sample size of {cell.n_effective:.1f}, under {EFFECTIVE_SIZE}"
    if cell.effective_documents < DOCUMENTS_FOR_LIMITS - 1e-9:
        return (
            f"weights that leave {cell.effective_documents:.1f} documents (Kish's number), fewer "
            f"than {DOCUMENTS_FOR_LIMITS}"
        )
    return None
