r"""Vocabulary specialisation (OLMoE, arXiv 2409.02060, section 5): do token ids pick their expert?

For a token id \(v\) that occurs \(N_v\) times, the share of its occurrences whose top-ranked expert is
the one most often top-ranked for \(v\). 1 means that the id alone decides the expert.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64

from moeaudit.errors import InputError

from .grouping import Cells, Choices, divide, token_rows
from .trace import Trace

MIN_COUNT = 10  # occurrences an id needs before its favourite expert is named, as in the paper


def vocabulary_specialisation(trace: Trace, by: str = "input", min_count: int = 1) -> pd.DataFrame:
    """Per layer, the mean over token ids of the share that goes to the id's modal expert.

    Args:
        trace: what `capture` returned.
        by: the id the token reads (`"input"`) or the id that really comes next (`"target"`).
        min_count: ids that occur less often are left out. The paper's averages use 1, where an
            id seen once scores 1 by construction; raise it for an estimate that means more.

    Returns:
        Columns layer, value, chance (share of the layer's busiest top-ranked expert, what an id
        without influence would approach), ids (number of ids averaged over). Ties of the modal
        expert go to the lower index, which does not change the value.

    Raises:
        InputError: `by` is neither, or no id occurs `min_count` times.
    """
    rows = []
    for layer in trace.layers:
        counts = _top_counts(trace, layer, by)
        share, total, _ = _modal(counts)
        often = total >= min_count
        if not often.any():
            raise InputError(
                f"No token id occurs {min_count} times in this trace, so there is nothing to "
                "average. Capture more text or lower min_count."
            )
        busiest = np.bincount(counts.expert, weights=counts.n).max() / counts.n.sum()
        rows.append(
            {
                "layer": layer,
                "value": float(share[often].mean()),
                "chance": float(busiest),
                "ids": int(often.sum()),
            }
        )
    return pd.DataFrame(rows)


def favourite_tokens(trace: Trace, by: str = "input", min_count: int = MIN_COUNT) -> pd.DataFrame:
    """The token ids whose modal top-ranked expert each expert is, with the share it gets.

    Returns:
        Columns layer, expert, id, share, n (occurrences), sorted by layer, expert and share.
    """
    frames = []
    for layer in trace.layers:
        counts = _top_counts(trace, layer, by)
        share, total, row = _modal(counts)
        often = total >= min_count
        frame = {
            "layer": layer,
            "expert": counts.expert[row][often],
            "id": counts.id[row][often],
            "share": share[often],
            "n": total[often],
        }
        order = np.lexsort((frame["id"], -frame["share"], frame["expert"]))
        frames.append(pd.DataFrame(frame).iloc[order])
    return pd.concat(frames, ignore_index=True)


def expert_vocabulary(trace: Trace, cells: Cells) -> Float[np.ndarray, " cells"]:
    """Mean share over the input ids (seen at least 10 times) whose modal expert this expert is.

    High for an expert that owns its tokens. Null for an expert that is no id's favourite.
    """
    modal = favourite_tokens(trace, "input", MIN_COUNT)
    layer, expert = (modal[name].to_numpy(np.int64) for name in ("layer", "expert"))
    # Cells are in ascending order of layer and expert, so one integer finds them.
    width = int(cells.expert.max()) + 1
    at = np.searchsorted(cells.layer * width + cells.expert, layer * width + expert)
    share = modal["share"].to_numpy(np.float64)
    total = np.bincount(at, weights=share, minlength=len(cells.layer))
    return divide(total.astype(np.float64), np.bincount(at, minlength=len(cells.layer)))


@dataclass(frozen=True)
class TopCounts:
    """How often each expert is top-ranked for each token id, sorted by id and expert."""

    id: Int64[np.ndarray, " pairs"]
    expert: Int64[np.ndarray, " pairs"]
    n: Int64[np.ndarray, " pairs"]


def _top_counts(trace: Trace, layer: int, by: str) -> TopCounts:
    if by not in ("input", "target"):
        raise InputError(f"by={by!r} is unknown; expected 'input' or 'target'.")
    choices = Choices.of(trace, layer)
    rows = token_rows(trace, choices.document, choices.position)
    ids = trace.tokens["token" if by == "input" else "target"].to_numpy(np.int64)[rows]
    size = trace.facts.num_experts[layer]
    pair, n = np.unique(ids * size + choices.expert[:, 0], return_counts=True)
    return TopCounts(pair // size, pair % size, n)


def _modal(
    counts: TopCounts,
) -> tuple[Float[np.ndarray, " ids"], Int64[np.ndarray, " ids"], Int64[np.ndarray, " ids"]]:
    """Per id: share of its modal expert, occurrences, and the row of `counts` with that expert."""
    _, start = np.unique(counts.id, return_index=True)
    total = np.add.reduceat(counts.n, start)
    # Sorted by id, then by falling count; ties keep the lower expert first.
    order = np.lexsort((counts.expert, -counts.n, counts.id))
    row = order[start]
    return counts.n[row] / total, total, row
