"""Is expert 5 of one model expert 5 of the other? A number is a name only where training made it one.

Two checkpoints of one training keep their experts' places; two trainings from different seeds do not, and a cell by
cell difference of theirs is of unrelated experts. Chosen experts of the same tokens tell the two apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from moeaudit.seeds import generator

N_SHUFFLES = 999


@dataclass(frozen=True)
class Correspondence:
    """`shared`: the part of one model's active experts that are, by number, active in the other for the same token;
    `shuffled`: the same with the other's experts numbered anew, on average; `p`: the share of numberings, its own
    among them, with as much. `by_layer`: (shared, shuffled) of each layer."""

    shared: float
    shuffled: float
    p: float
    by_layer: Mapping[int, tuple[float, float]]


def correspondence(
    together: Mapping[int, Float[np.ndarray, "experts experts"]],
    active: Mapping[int, float],
    *,
    seed: int = 0,
    n_shuffles: int = N_SHUFFLES,
) -> Correspondence:
    """From `together`: by layer, the tokens for which expert e of one model and expert f of the other are active, and
    `active`: how many active experts the one model's tokens have in that layer, all together.

    Under the null that numbers mean nothing, every numbering of the other model's experts is as likely as its own, each
    layer's apart: a permutation test of the tokens that agree, added up over layers.
    """
    found, null = 0.0, np.zeros(n_shuffles)
    by_layer: dict[int, tuple[float, float]] = {}
    for layer, table in together.items():
        experts = len(table)
        rng = generator(seed, "numberings", layer)
        order = np.argsort(rng.random((n_shuffles, experts)), axis=1)
        drawn = table[np.arange(experts), order].sum(axis=1)
        agree = float(np.trace(table))
        found, null = found + agree, null + drawn
        by_layer[layer] = (agree / active[layer], float(drawn.mean()) / active[layer])
    p = float((1 + (null >= found - 1e-9).sum()) / (1 + n_shuffles))
    total = sum(active[layer] for layer in together)
    return Correspondence(found / total, float(null.mean()) / total, p, by_layer)
