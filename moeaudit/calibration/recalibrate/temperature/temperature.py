"""One temperature for each group of predictions, fitted on logits that may come in pieces.

Temperature scaling divides the logits by T before the softmax (Guo et al. 2017, arXiv 1706.04599).
With b = 1 / T the mean loss of a group is

    L(b) = mean_i w_i [ log sum_k exp(b z_ik) - b z_iy ],

which is convex in b: its slope is the mean of E_p[z] - z_y and its curvature the mean of Var_p[z]
under p = softmax(b z). So all groups are fitted at once by Newton's method, with one pass over the
logits for each step, and the logits of a large vocabulary never have to be in memory together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from moeaudit.errors import InputError

from ...predictions.columns import classes
from .fit import (
    BOUNDS,
    MIN_SIZE,
    Beyond,
    GroupCounts,
    TemperatureFit,
    at_bound,
    group_counts,
)

# (logits "rows classes", label "rows", group codes "rows" or None, weight "rows" or None)
Chunk = tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]
_BLOCK = 2**21  # logits worked on at a time


def fit_temperature(
    logits: Float[np.ndarray, "rows classes"],
    label: Any,
    *,
    group: np.ndarray | None = None,
    weight: Float[np.ndarray, " rows"] | None = None,
    min_size: int = MIN_SIZE,
    bounds: tuple[float, float] = BOUNDS,
) -> TemperatureFit:
    """The temperature of all rows and of each group of at least `min_size` rows.

    Parameters
    ----------
    logits
        Unnormalised scores. A constant may be added to each row, so log-probabilities do as well.
    group
        A label for each row: a domain, an expert, a routing configuration.
    weight
        Importance weights; only their ratios matter.
    bounds
        Smallest and largest temperature. A fit that ends there is marked: all predictions right
        (T wants 0) or worse than uniform (T wants infinity).

    Raises InputError for logits that are not finite, labels out of range, a single class, no rows.
    """
    codes, names = group_codes(group, len(label))
    label = checked_labels(logits, label)
    if weight is not None and len(weight) != len(label):
        raise InputError(f"There are {len(weight)} weights for {len(label)} rows; give one each.")
    counts = group_counts(len(label), codes, names, weight, min_size)
    return _newton(lambda: iter([(logits, label, codes, weight)]), counts, bounds)


def fit_temperature_streaming(
    chunks: Callable[[], Iterable[Chunk]],
    *,
    groups: list[str] | None = None,
    min_size: int = MIN_SIZE,
    bounds: tuple[float, float] = BOUNDS,
) -> TemperatureFit:
    """The same from a callable that walks over the rows anew at each call.

    Each piece is (logits, label, group codes or None, weight or None); codes are places in
    `groups`. The callable is called once to count and about ten times to fit, and must give the
    same rows each time. Only one piece is held at a time.
    """
    names = [] if groups is None else list(groups)
    rows, weights, codes = 0, [], []
    for z, y, code, weight in chunks():
        check_logits(z, y)
        if (code is None) != (groups is None):
            raise InputError("Give group codes with every piece and their names in `groups`.")
        rows += len(y)
        codes.append(np.zeros(len(y), np.int64) if code is None else code)
        weights.append(np.ones(len(y)) if weight is None else weight)
    if rows == 0:
        raise InputError("There are no rows to fit a temperature on.")
    code = np.concatenate(codes)
    if groups is not None and (code.min() < 0 or code.max() >= len(names)):
        raise InputError(
            f"A group code lies outside 0 to {len(names) - 1}, the places in `groups`."
        )
    given = None if groups is None else code
    counts = group_counts(rows, given, names, np.concatenate(weights), min_size)
    return _newton(chunks, counts, bounds)


def binary_logits(confidence: Float[np.ndarray, " rows"]) -> Float[np.ndarray, "rows 2"]:
    """Logits of the event "the prediction is right", from its probability alone.

    A temperature on these is *temperature on the binary logit of the confidence*: it moves
    log(c / (1 - c)) towards 0, so towards a confidence of 0.5, where temperature on the whole
    logits moves towards 1 / classes. The two agree for two classes only. Confidences of exactly 0
    or 1 are taken as 1e-12 from there.
    """
    c = np.clip(np.asarray(confidence, dtype=np.float64), 1e-12, 1 - 1e-12)
    return np.stack([np.zeros_like(c), np.log(c) - np.log1p(-c)], axis=1)


def group_codes(group: np.ndarray | None, rows: int) -> tuple[np.ndarray | None, list[str]]:
    """Groups as codes 0.. and their names in sorted order."""
    if group is None:
        return None, []
    if len(group) != rows:
        raise InputError(f"There are {len(group)} group labels for {rows} rows; give one each.")
    names, codes = np.unique(np.asarray(group).astype(str), return_inverse=True)
    return codes, [str(name) for name in names]


def checked_labels(logits: np.ndarray, label: np.ndarray) -> Int[np.ndarray, " rows"]:
    """`check_logits`, with labels as whole numbers where they are text, floats or (rows, 1)."""
    if logits.ndim == 2 and logits.shape[1] and len(label):
        label = classes(label, logits.shape[1])
    check_logits(logits, label)
    return label


def check_logits(logits: np.ndarray, label: np.ndarray) -> None:
    """Refuse what no temperature can be fitted on."""
    if logits.ndim != 2 or len(logits) != len(label):
        raise InputError(
            f"Logits of shape {logits.shape} and {len(label)} labels do not belong together. "
            "Expected logits (rows, classes) and one class number per row."
        )
    if len(label) == 0:
        raise InputError("There are no rows to fit a temperature on.")
    if logits.shape[1] < 2:
        raise InputError(
            "The logits have a single class, so every prediction is certain and there is nothing "
            "to recalibrate. Expected two classes or more."
        )
    if not np.isfinite(logits).all():
        raise InputError("Some logits are NaN or infinite; a temperature needs finite logits.")
    if label.ndim != 1 or label.dtype.kind not in "iu":
        raise InputError(
            f"Labels are {label.dtype} of shape {label.shape}; one whole number a row is needed, the place "
            "of the true class among the columns of logits."
        )
    if label.min() < 0 or label.max() >= logits.shape[1]:
        raise InputError(
            f"Labels must be class numbers 0 to {logits.shape[1] - 1}; found {label.min()} to "
            f"{label.max()}."
        )


def _newton(
    chunks: Callable[[], Iterable[Chunk]], counts: GroupCounts, bounds: tuple[float, float]
) -> TemperatureFit:
    """Safeguarded Newton steps in b = 1 / T for all groups together, the global fit being one."""
    if not 0 < bounds[0] < bounds[1]:
        raise InputError(f"The bounds of a temperature must be 0 < low < high; got {bounds}.")
    smallest, largest = 1 / bounds[1], 1 / bounds[0]
    n = len(counts.names) + 1  # the last is the global fit
    beta = np.clip(np.ones(n), smallest, largest)
    low, high = np.full(n, smallest), np.full(n, largest)
    moving = np.append(counts.large, True)
    before = np.full(n, np.nan)
    for step in range(60):
        loss, slope, curve = _pass(chunks, beta, counts)
        if step == 0:
            before = _loss_at_one(chunks, beta, loss, counts)
        high = np.where(slope > 0, np.minimum(high, beta), high)
        low = np.where(slope <= 0, np.maximum(low, beta), low)
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = beta - slope / curve
        wanted = np.where(np.isfinite(wanted), wanted, np.where(slope > 0, smallest, largest))
        wanted = np.clip(wanted, smallest, largest)
        inside = (wanted > low) & (wanted < high)
        untried = ((wanted == smallest) & (low == smallest)) | (
            (wanted == largest) & (high == largest)
        )
        step_to = np.where(inside | untried, wanted, np.sqrt(low * high))
        moved = np.abs(step_to - beta) > 1e-9 * beta
        beta = np.where(moving & moved, step_to, beta)
        if not (moving & moved).any():
            break
    loss, _, _ = _pass(chunks, beta, counts)
    beyond = _beyond(chunks, n, bool(at_bound(1 / beta, bounds).any()))
    return TemperatureFit.of(counts, 1 / beta, before, loss, bounds, beyond)


def _beyond(chunks: Callable[[], Iterable[Chunk]], n: int, asked: bool) -> Beyond:
    """What lies beyond the bounds; one more pass over the logits, made only where it is `asked`."""
    spread, behind, against = np.zeros((3, n))
    for z, y, code, weight in _blocks(chunks) if asked else ():
        w = np.ones(len(y)) if weight is None else weight
        true = z[np.arange(len(y)), y]
        top = z.max(axis=1)
        own = np.full(len(y), n - 1) if code is None else code
        for which in (own, np.full(len(y), n - 1)) if n > 1 else (own,):
            spread += np.bincount(which, w * (top - z.min(axis=1)), minlength=n)
            behind += np.bincount(which, w * (top - true), minlength=n)
            against += np.bincount(which, w * (z.mean(axis=1) - true), minlength=n)
    return Beyond(spread <= 0, behind <= 0, against >= 0)


def _loss_at_one(
    chunks: Callable[[], Iterable[Chunk]], beta: np.ndarray, loss: np.ndarray, counts: GroupCounts
) -> np.ndarray:
    if (beta == 1).all():
        return loss
    return _pass(chunks, np.ones_like(beta), counts)[0]


def _pass(
    chunks: Callable[[], Iterable[Chunk]], beta: np.ndarray, counts: GroupCounts
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean loss, slope and curvature of each group at its own b (the last: all rows at its b)."""
    n = len(beta)
    sums = np.zeros((3, n))
    for z, y, code, weight in _blocks(chunks):
        own = np.full(len(y), n - 1) if code is None else code
        for which in (own, np.full(len(y), n - 1)) if n > 1 else (own,):
            values = _row_terms(z, y, beta[which])  # (3, rows)
            w = np.ones(len(y)) if weight is None else weight
            for k in range(3):
                sums[k] += np.bincount(which, values[k] * w, minlength=n)
    with np.errstate(divide="ignore", invalid="ignore"):
        loss, slope, curve = sums / counts.total_weight
    return loss, slope, curve


def _row_terms(z: np.ndarray, y: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Loss, slope and curvature of each row at its b."""
    z = z - z.max(axis=1, keepdims=True)
    e = np.exp(beta[:, None] * z)
    total = e.sum(axis=1)
    mean = (e * z).sum(axis=1) / total
    square = (e * z * z).sum(axis=1) / total
    true = z[np.arange(len(y)), y]
    return np.stack([np.log(total) - beta * true, mean - true, np.maximum(square - mean**2, 0)])


def _blocks(chunks: Callable[[], Iterable[Chunk]]) -> Iterator[Chunk]:
    """Pieces small enough to copy in float64."""
    for z, y, code, weight in chunks():
        rows = max(1, _BLOCK // z.shape[1])
        for start in range(0, len(y), rows):
            part = slice(start, start + rows)
            yield (
                z[part].astype(np.float64),
                y[part],
                None if code is None else code[part],
                None if weight is None else weight[part],
            )
