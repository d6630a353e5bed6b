"""Shapley values of a token's active experts, exact over all sets or from random orders."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError
from moeaudit.frames.waiting import counting

from .removed import TOKEN, SetEffects, by_layer, removed_sets, set_size


def shapley(effects: Any, outcome: str = "delta_nll") -> pd.DataFrame:
    r"""Share out a layer's joint effect over its active experts, token by token.

    $$\phi_i = \sum_{S \subseteq N \setminus i} \frac{|S|!\,(k - |S| - 1)!}{k!}\,[v(S \cup i) - v(S)]$$

    with $v(S)$ the effect of removing the set S and $v(\emptyset) = 0$ (Shapley 1953). The values of a token
    sum to its joint effect $v(N)$. From `Coalitions()` (up to six active experts) they are exact; from
    `Permutations(n)` they are the mean marginal effect along n random orders of removal (Castro,
    Gomez & Tejada 2009), unbiased, with `se` the standard error over orders. Along each order the
    marginal effects telescope, so sampled values sum to the joint effect as well.

    Args:
        effects: what `ablate` returned for `Coalitions()` or `Permutations(...)`.
        outcome: the column to share out, `delta_nll` or `kl` (nats) or an outcome of your own.

    Returns:
        One row for each (document, position, layer, rank): `shapley`, `single` (the effect of removing
        this expert alone; NaN where no order began with it), `joint` (that of all together), `se`
        (0 if exact) and `orders` (0 if exact).

    Raises InputError for a table that lacks sets.
    """
    frame = removed_sets(effects, outcome, also="permutation")
    make = _sampled if "permutation" in frame else _exact
    parts = []
    with counting(None, "shapley", len(set(frame["layer"])), "layers") as tell:
        for _, part in frame.groupby("layer", sort=True):
            parts.append(make(part, outcome))
            tell(1)
    return pd.concat(parts).sort_values([*TOKEN, "rank"], ignore_index=True)


def _exact(frame: pd.DataFrame, outcome: str) -> pd.DataFrame:
    (sets,) = by_layer(frame, outcome)
    k = sets.top_k
    sets.need(list(range(1, 1 << k)), "shapley()", "Coalitions() or Permutations(...)")
    value = {mask: sets.of(mask) for mask in range(1 << k)}
    shares = np.zeros((len(sets.tokens), k))
    for rank in range(k):
        others = [r for r in range(k) if r != rank]
        for size in range(k):
            share = math.factorial(size) * math.factorial(k - size - 1) / math.factorial(k)
            for chosen in itertools.combinations(others, size):
                mask = sum(1 << r for r in chosen)
                shares[:, rank] += share * (value[mask | 1 << rank] - value[mask])
    return _table(sets, shares, np.zeros_like(shares), 0)


def _sampled(frame: pd.DataFrame, outcome: str) -> pd.DataFrame:
    (sets,) = by_layer(frame, outcome)
    k, whole = sets.top_k, (1 << sets.top_k) - 1
    sets.need([whole], "shapley()", "Permutations(...)")
    orders = frame[frame.permutation >= 0]
    orders = orders.assign(size=set_size(orders.members.to_numpy(np.int64)))
    orders = orders.sort_values([*TOKEN, "permutation", "size"])
    n = int(orders.permutation.max()) + 1 if len(orders) else 0
    if n < 2 or len(orders) != len(sets.tokens) * n * (k - 1):
        raise InputError(
            f"shapley() needs every step of every order: {len(orders)} rows are there for {len(sets.tokens)} tokens "
            f"of layer {int(sets.tokens.layer.iloc[0])}, {n} orders and {k} active experts. Pass the whole table "
            "of Permutations(n), n at least 2."
        )
    shape = (len(sets.tokens), n, k - 1)
    along = orders[outcome].to_numpy(np.float64).reshape(shape)
    mask = orders.members.to_numpy(np.int64).reshape(shape)
    none, every = np.zeros((*shape[:2], 1)), np.full((*shape[:2], 1), whole)
    joint = np.broadcast_to(sets.of(whole)[:, None, None], none.shape)
    steps = np.diff(np.concatenate([none, along, joint], 2), axis=2)  # (tokens, orders, k)
    masks = np.concatenate([none.astype(np.int64), mask, every], 2)
    who = np.log2(masks[..., 1:] ^ masks[..., :-1]).astype(int)  # rank removed at each step
    marginal = np.zeros_like(steps)
    np.put_along_axis(marginal, who, steps, 2)
    shares = marginal.mean(1)
    return _table(sets, shares, marginal.std(1, ddof=1) / math.sqrt(n), n)


def _table(sets: SetEffects, shares: np.ndarray, se: np.ndarray, orders: int) -> pd.DataFrame:
    k = sets.top_k
    parts = [
        sets.tokens.assign(
            rank=rank,
            shapley=shares[:, rank],
            single=sets.of(1 << rank),
            joint=sets.of((1 << k) - 1),
            se=se[:, rank],
            orders=orders,
        )
        for rank in range(k)
    ]
    return pd.concat(parts)
