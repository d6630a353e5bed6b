"""What would be dropped if each expert took a bounded number of tokens, as training with capacity does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int64

from moeaudit.errors import InputError, one_of

from ..grouping import Choices
from ..trace import Trace
from .balance import batches_of

ORDERS = {"rank": "all first choices before all second ones", "position": "token by token"}


def expert_capacity(
    trace: Trace, factor: Any = 1.25, *, micro: Any = None, order: str = "rank"
) -> pd.DataFrame:
    r"""Slots and tokens that a capacity factor would drop, per layer.

    Each expert takes at most \(C = \lceil c\, T k / E \rceil\) slots of a batch of T tokens (Switch Transformers, arXiv
    2101.03961, has k = 1); later ones are dropped and their token gets nothing from that expert. The models here are
    trained and run without a capacity: this says how far their routing is from one that could be.

    Args:
        trace: what `capture` returned.
        factor: the capacity factor c, above 0.
        micro: documents in a batch, or "domain", as in `load_balance`; all documents are one batch if None.
        order: who comes first, "rank" (all first choices, then all second ones, as GShard, arXiv 2006.16668) or
            "position" (token by token).

    Returns:
        One row per layer: layer, capacity (mean C over batches), slots, dropped (share of slots), tokens_hit (share
        of tokens that lose a slot), tokens_lost (share that lose all), full (mean number of experts at
        capacity), unused (share of the capacity of all experts that stays empty), experts, batches.

    Raises:
        InputError: a factor that is not above 0 and finite, an unknown order, or `micro` as in `load_balance`.
    """
    if (
        isinstance(factor, bool)
        or not isinstance(factor, (int, float))
        or not 0 < factor < math.inf
    ):
        raise InputError(
            f"factor = {factor!r}: a number above 0 was expected, such as 1.25 for a quarter more room than even use "
            "needs."
        )
    one_of(order, ORDERS, "order")
    rows = []
    for layer in trace.layers:
        choices, size = Choices.of(trace, layer), trace.facts.num_experts[layer]
        document = np.unique(choices.document, return_inverse=True)[1]
        batch = np.zeros(len(document), dtype=np.int64)
        if micro is not None:
            batch = batches_of(trace, micro)[document]
        tokens, top_k = choices.expert.shape
        batches = int(batch.max()) + 1
        room = np.array([math.ceil(factor * n * top_k / size - 1e-9) for n in np.bincount(batch)])
        place = _places(choices.expert, batch, size, order)
        gone = place >= room[batch][:, None]
        load = np.bincount(
            (batch[:, None] * size + choices.expert).ravel(), minlength=batches * size
        ).reshape(batches, size)
        taken = np.minimum(load, room[:, None])
        rows.append(
            {
                "layer": layer,
                "capacity": float(room.mean()),
                "slots": tokens * top_k,
                "dropped": float(gone.mean()),
                "tokens_hit": float(gone.any(axis=1).mean()),
                "tokens_lost": float(gone.all(axis=1).mean()),
                "full": float((load >= room[:, None]).sum(axis=1).mean()),
                "unused": float(1 - taken.sum() / (room.sum() * size)),
                "experts": size,
                "batches": batches,
            }
        )
    return pd.DataFrame(rows)


def _places(
    expert: Int64[np.ndarray, "tokens top_k"],
    batch: Int64[np.ndarray, " tokens"],
    size: int,
    order: str,
) -> Int64[np.ndarray, "tokens top_k"]:
    """How many slots of the same batch came to a slot's expert before it."""
    tokens, top_k = expert.shape
    rank = np.broadcast_to(np.arange(top_k), expert.shape)
    token = np.broadcast_to(np.arange(tokens)[:, None], expert.shape)
    first, second = (rank, token) if order == "rank" else (token, rank)
    cell = batch[:, None] * size + expert
    turn = np.lexsort((second.ravel(), first.ravel(), cell.ravel()))
    ordered = cell.ravel()[turn]
    start = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    count = np.arange(len(turn)) - np.repeat(start, np.diff(np.r_[start, len(turn)]))
    place = np.empty(len(turn), dtype=np.int64)
    place[turn] = count
    return place.reshape(expert.shape)
