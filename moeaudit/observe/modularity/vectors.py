"""Router vectors: a document's mean router probabilities, its choices, and what the router says of its first tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from moeaudit.errors import InputError
from moeaudit.models import Model
from moeaudit.models.experts.pool import router_probabilities
from moeaudit.models.forward import clean_pass
from moeaudit.text.for_model import tokens_for


@dataclass(frozen=True)
class RouterVectors:
    """What the routers of a model make of some documents, by decoder layer index.

    `mean`: each document's mean router probabilities. `chosen`: the experts of every token, in the order of
    `token_document` (places in `document`). `first`: probabilities of all layers side by side for the first tokens of
    each document, with `first_document` and `first_token` (ids). Arrays; documents in the order they were read.
    """

    model: str
    document: Int[np.ndarray, " documents"]
    domain: tuple[str, ...]
    mean: dict[int, Float[np.ndarray, "documents experts"]]
    chosen: dict[int, Int[np.ndarray, "tokens top_k"]]
    token_document: Int[np.ndarray, " tokens"]
    first: Float[np.ndarray, "firsts probabilities"]
    first_document: Int[np.ndarray, " firsts"]
    first_token: Int[np.ndarray, " firsts"]

    @property
    def layers(self) -> list[int]:
        return sorted(self.mean)


def router_vectors(
    model: Model, docs: Any, *, first: int = 100, max_length: int | None = None
) -> RouterVectors:
    """Read `docs` once and keep what the routers say of them.

    `first` tokens of each document are kept one by one for `token_clusters`; `docs` and `max_length` as in
    `capture`. Probabilities are the softmax of the router's logits over all experts, before any choice.
    Raises InputError for a `first` below 1, ContractError for a router that shows no score of every expert.
    """
    if isinstance(first, bool) or first < 1:
        raise InputError(
            f"first = {first!r}: how many tokens of a document to keep was expected, at least 1."
        )
    texts = tokens_for(model, docs, max_length)
    numbers = list(dict.fromkeys(chunk.document for chunk in texts.chunks))
    place = {number: i for i, number in enumerate(numbers)}
    domain = {chunk.document: chunk.domain for chunk in texts.chunks}
    layers = model.anatomy.layers
    total = {x.index: np.zeros((len(numbers), x.num_experts)) for x in layers}
    count = np.zeros(len(numbers))
    chosen: dict[int, list[np.ndarray]] = {x.index: [] for x in layers}
    of_token, firsts, of_first, ids_first = [], [], [], []
    for chunk in texts.chunks:
        ids = torch.as_tensor(chunk.ids, dtype=torch.long, device=model.device)[None]
        _, seen = clean_pass(model, layers, ids)
        here, kept = place[chunk.document], max(0, min(first - chunk.start, len(chunk.ids)))
        side = []
        for layer in layers:
            p = router_probabilities(layer, seen[layer.index].hidden).double().cpu().numpy()
            total[layer.index][here] += p.sum(0)
            chosen[layer.index].append(seen[layer.index].index.cpu().numpy().astype(np.int64))
            side.append(p[:kept])
        count[here] += len(chunk.ids)
        of_token.append(np.full(len(chunk.ids), here))
        firsts.append(np.concatenate(side, 1))
        of_first.append(np.full(kept, here))
        ids_first.append(np.asarray(chunk.ids[:kept], dtype=np.int64))
    return RouterVectors(
        model=model.name,
        document=np.array(numbers),
        domain=tuple(str(domain[number]) for number in numbers),
        mean={index: sums / count[:, None] for index, sums in total.items()},
        chosen={index: np.concatenate(parts) for index, parts in chosen.items()},
        token_document=np.concatenate(of_token),
        first=np.concatenate(firsts),
        first_document=np.concatenate(of_first),
        first_token=np.concatenate(ids_first),
    )


def router_mean(model: Model, docs: Any) -> pd.DataFrame:
    """Mean router probability of each expert over all tokens: the selector of EMO, as a ranking for `prune_curve`.

    Columns layer, expert, score (higher stays). EMO's own selector prunes layer after layer and reads the texts again
    in between (`pruning.criteria.greedy`); here all layers are read in the whole model, as every other criterion is.
    """
    vectors = router_vectors(model, docs, first=1)
    share = np.bincount(vectors.token_document, minlength=len(vectors.document)).astype(np.float64)
    share /= share.sum()
    rows = [
        (layer, expert, float(score))
        for layer in vectors.layers
        for expert, score in enumerate(share @ vectors.mean[layer])
    ]
    return pd.DataFrame(rows, columns=["layer", "expert", "score"])
