"""The largest of many, picked in one half of the documents and read in the other.

The largest of 88 numbers is large by what it is and by luck, so its own size is too much (the winner's
curse). A half of the documents that took no part in the choice does not know who won there. The mean over
many random halvings is what the winner shows without its luck; since half of the documents choose a little
worse than all, it is rather too small than too large.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from moeaudit.seeds import generator

HALVINGS = 200
COLUMNS = ("largest_held_out", "metric_largest_held_out")


def halvings(n_documents: int, seed: int) -> Float[np.ndarray, "halvings documents"]:
    """Random halves of the documents as weights, 1 in the half; the others are the other half."""
    rng = generator(seed, "halves to choose in")
    even = np.tile(np.arange(n_documents) % 2, (HALVINGS, 1))
    return rng.permuted(even, axis=1).astype(np.float64)


def held_out(
    one: Float[np.ndarray, "halvings cells"], other: Float[np.ndarray, "halvings cells"]
) -> float:
    """What the cell with the largest size in a half shows in the other half, both ways, on average.

    Positive where the other half agrees on the sign. A cell that has no number in a half (nothing
    varies there, or it has no token) counts as 0 in it. NaN without cells or halves.
    """
    if one.shape[1] == 0 or len(one) == 0:
        return float("nan")
    sizes = np.nan_to_num(np.stack([one, other]), nan=0.0, posinf=0.0, neginf=0.0)
    winner = np.abs(sizes).argmax(axis=-1)[..., None]
    sign = np.sign(np.take_along_axis(sizes, winner, axis=-1))
    read = np.take_along_axis(sizes[::-1], winner, axis=-1)
    return float((sign * read).mean())


def held_out_columns(
    metric: Sequence[str],
    usable: np.ndarray,
    one: Float[np.ndarray, "halvings cells"],
    other: Float[np.ndarray, "halvings cells"],
) -> dict[str, np.ndarray]:
    """For the cells of a family: `largest_held_out`, the same for all of them, and
    `metric_largest_held_out`, the same for all layers of a metric. Cells that are not `usable` cannot win."""
    names = np.asarray(metric, dtype=object)
    of_metric = np.full(len(names), np.nan)
    for name in dict.fromkeys(names):
        mine = (names == name) & usable
        of_metric[names == name] = held_out(one[:, mine], other[:, mine])
    whole = np.full(len(names), held_out(one[:, usable], other[:, usable]))
    return dict(zip(COLUMNS, (whole, of_metric)))
