"""EMO's own selector: prune a layer by the router's mean, read the texts again, go on to the next."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.causal.operators import Without
from moeaudit.causal.walk.forwards import applied
from moeaudit.frames import Frame
from moeaudit.models import Model
from moeaudit.observe.modularity import router_vectors
from moeaudit.text.for_model import tokens_for

from ..choose import check_keep, choose, tie_breaks
from ..export.groups import groups_of


def greedy_router_mean(model: Model, docs: Any, keep: float, *, seed: int = 0) -> Frame:
    """Mean router probability of each expert over all tokens, layer after layer with those below already pruned.

    The selector of EMO's code (Wang, Bhagia & Min, arXiv 2605.06663): what a layer's router says of the states that
    the pruned layers below hand up, not of those of the whole model (`observe.modularity.router_mean`). Its ranking
    belongs to one share `keep` of experts that stay, and is for `prune_curve` at that share with the same `seed`
    (which decides ties). It reads `docs` once for each layer, where other criteria read them once.

    Columns layer, expert, score (higher stays). Raises InputError for a share below top-k, ContractError for a router
    from which experts cannot be banned or that shows no score of every expert.
    """
    texts, groups = tokens_for(model, docs), groups_of(model)
    check_keep(model, [keep], groups)
    ties, gone, rows = tie_breaks(model, seed), {}, []
    for layer in model.anatomy.layers:
        with applied(Without(gone), model) if gone else nullcontext():
            vectors = router_vectors(model, texts, first=1)
        tokens = np.bincount(vectors.token_document, minlength=len(vectors.document)).astype(float)
        mean = (tokens / tokens.sum()) @ vectors.mean[layer.index]
        scores = {(layer.index, expert): float(score) for expert, score in enumerate(mean)}
        gone |= {
            i: list(e) for i, e in choose([layer], scores, keep, "layer", ties, groups).items() if e
        }
        rows += [(*cell, score) for cell, score in scores.items()]
    return pd.DataFrame(rows, columns=["layer", "expert", "score"])
