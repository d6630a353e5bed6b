"""What sets of experts do that single experts do not: interactions and redundancy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from moeaudit.errors import InputError
from moeaudit.frames.waiting import counting

from ..clustered import safe_ratio_draws
from ..sizes.bootstrap import document_weights, percentile_limits
from .removed import SetEffects, by_layer, removed_sets


def interactions(effects: Any, outcome: str = "delta_nll") -> pd.DataFrame:
    r"""Interaction of every pair of active experts, token by token.

    $I_{ij} = v(\{i, j\}) - v(\{i\}) - v(\{j\})$, where $v(S)$ is the effect of removing the set S (the
    pairwise term of the Harsanyi dividends; 0 for effects that add up). For harm (`delta_nll`)
    $I > 0$ says that each expert stands in for the other (losing both costs more than the two losses
    apart), $I < 0$ that one loss makes the other cheaper.

    Args:
        effects: what `ablate(model, docs, Coalitions((1, 2)))` returned, or `Coalitions()`.
        outcome: the column to summarise, `delta_nll` or `kl` (nats) or an outcome of your own.

    Returns:
        One row for each (document, position, layer, pair): `rank` < `rank_other`, `expert`,
        `expert_other`, `single`, `single_other`, `joint` and `interaction`, in units of the outcome.

    Raises InputError for a table without single removals and pairs.
    """
    parts = []
    layers = by_layer(removed_sets(effects, outcome), outcome)
    with counting(None, "interactions", len(layers), "layers") as tell:
        for sets in layers:
            k = sets.top_k
            pairs = list(itertools.combinations(range(k), 2))
            if not pairs:
                raise InputError(
                    f"Layer {int(sets.tokens.layer.iloc[0])} has one active expert a token, so there are no pairs."
                )
            masks = [1 << r for r in range(k)] + [1 << i | 1 << j for i, j in pairs]
            sets.need(masks, "interactions()", "Coalitions((1, 2))")
            for i, j in pairs:
                single, other, joint = (sets.of(m) for m in (1 << i, 1 << j, 1 << i | 1 << j))
                columns = {
                    "rank": i,
                    "rank_other": j,
                    "expert": sets.expert[:, i],
                    "expert_other": sets.expert[:, j],
                    "single": single,
                    "single_other": other,
                    "joint": joint,
                    "interaction": joint - single - other,
                }
                parts.append(sets.tokens.assign(**columns))
            tell(1)
    order = ["document", "position", "layer", "rank", "rank_other"]
    return pd.concat(parts).sort_values(order, ignore_index=True)


def redundancy(
    effects: Any,
    outcome: str = "delta_nll",
    *,
    n_boot: int = 1999,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    r"""How much less, or more, removing a layer's experts together does than one by one, by layer.

    $R_l = 1 - \overline{v(N)} / \overline{\sum_i v(\{i\})}$, a ratio of means over the tokens of layer l, N all
    active experts. 0: effects add up. Positive: the experts share what they do, and the sum counts
    it more than once. Negative: each stands in for the others, so that removing one
    alone shows less than its part. A ratio of means and not a mean of ratios, since a token's own
    sum may be 0 or negative; `sum_not_positive` counts such tokens.

    KL grows with the square of a small change, so for `kl` the index is 0 where the experts' changes of the
    prediction are orthogonal and -(k - 1) where they are equal and small: read it as how far they
    point the same way, and `delta_nll` for what the losses cost.

    Where the mean sum is not told apart from 0 (its interval holds 0) no ratio can be estimated:
    `estimable` is False and index and limits are NaN. Limits are percentiles over resampled
    documents (all tokens of a document move together).

    Args:
        effects: what `ablate(model, docs, Coalitions((1, k)))` returned, k the number of active
            experts, or `Coalitions()`.
        outcome: the column to summarise; `kl` cannot be negative, so its ratio is defined more often.
        n_boot, level, seed: resamples of documents, level of the interval, seed of the draws.

    Returns:
        One row a layer: `tokens`, `documents`, `joint` and `sum_of_singles` (means, in units of
        the outcome), `redundancy`, `low`, `high`, `estimable`, `sum_not_positive`.

    Raises InputError for a table without single removals and whole layers, or of one document.
    """
    rows = []
    frame = removed_sets(effects, outcome)
    documents = np.unique(frame.document)
    weights = document_weights(len(documents), n_boot, seed)
    layers = by_layer(frame, outcome)
    with counting(None, "redundancy", len(layers), "layers") as tell:
        for sets in layers:
            k, layer = sets.top_k, int(sets.tokens.layer.iloc[0])
            if k < 2:
                raise InputError(
                    f"Layer {layer} has one active expert a token: it cannot be redundant to itself."
                )
            sets.need(
                [1 << r for r in range(k)] + [(1 << k) - 1], "redundancy()", f"Coalitions((1, {k}))"
            )
            joint = sets.of((1 << k) - 1)
            summed = np.sum([sets.of(1 << r) for r in range(k)], axis=0)
            rows.append({"layer": layer} | _ratio(sets, joint, summed, documents, weights, level))
            tell(1)
    return pd.DataFrame(rows)


def _ratio(
    sets: SetEffects,
    joint: Float[np.ndarray, " tokens"],
    summed: Float[np.ndarray, " tokens"],
    documents: np.ndarray,
    weights: Float[np.ndarray, "n_boot documents"],
    level: float,
) -> dict[str, float | int | bool]:
    place = np.searchsorted(documents, sets.tokens.document.to_numpy())
    count = np.bincount(place, minlength=len(documents))
    above, below = (np.bincount(place, x, len(documents)) for x in (joint, summed))
    draws = safe_ratio_draws(above, below, weights, level, count.astype(np.float64))
    nan = float("nan")
    index, limits = nan, (nan, nan)
    if draws is not None:
        index = 1 - float(joint.sum() / summed.sum())
        limits = percentile_limits(1 - draws, level)
    return {
        "tokens": len(joint),
        "documents": int((count > 0).sum()),
        "joint": float(joint.mean()),
        "sum_of_singles": float(summed.mean()),
        "redundancy": index,
        "low": limits[0],
        "high": limits[1],
        "estimable": draws is not None,
        "sum_not_positive": int((summed <= 0).sum()),
    }
