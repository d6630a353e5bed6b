"""The contrast of each metric with its values on other experts, for one layer of a census."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moeaudit.seeds import generator

from ..families.experts import Null, Shuffles, none, nulls
from .controls import document_folds, heldout_means, random_score
from .crossfit import Scores
from .protocol import Protocol, choose_tokens
from .slots import Slots

PER_TOKEN = "a choice made for each token, not a number of each expert"


def nulls_of(
    slots: Slots,
    scores: Scores,
    names: list[str],
    controls: tuple[str, ...],
    recipe: Protocol,
    *,
    seed: int,
    draw_seed: int,
) -> dict[str, Null]:
    """The null over experts of every metric and control of a layer, by its name.

    All are shuffled alike, so that a family's maxima keep the dependence between metrics.
    """
    shuffles = Shuffles.of(slots, recipe.n_shuffles, seed)
    out = {}
    for label, together in _drawn(names, recipe).items():
        tokens = _tokens(slots, recipe, generator(draw_seed, "positions", label))
        tables = [
            np.stack([scores.values(i, slots.layer, n, shuffles.expert) for n in together])
            for i in range(len(scores.tables))
        ]
        found = nulls(tokens, tables, scores.fold[tokens.document], shuffles)
        out |= dict(zip(together, found))
    for name in controls:
        tokens = _tokens(slots, recipe, generator(draw_seed, "positions", _label(name, recipe)))
        if name == "random_score":
            one = [random_score(slots, seed)[shuffles.expert][None]]
            out[name] = nulls(tokens, one, np.zeros(len(tokens.document), int), shuffles)[0]
        elif name == "heldout_causal" and slots.n_documents >= 2:
            folds = document_folds(slots.n_documents, recipe.n_folds, seed)
            means = [row[shuffles.expert][None] for row in heldout_means(slots, folds)]
            out[name] = nulls(tokens, means, folds[tokens.document], shuffles)[0]
        elif name == "heldout_causal":
            out[name] = none("a held-out score needs at least 2 documents")
        else:
            out[name] = none(PER_TOKEN)
    return out


def _label(name: str, recipe: Protocol) -> str:
    return name if recipe.defects.own_positions_per_metric else "shared"


def _drawn(names: list[str], recipe: Protocol) -> dict[str, list[str]]:
    """The metrics that are tested on the same positions, by the label of their draw."""
    out: dict[str, list[str]] = {}
    for name in names:
        out.setdefault(_label(name, recipe), []).append(name)
    return out


def _tokens(slots: Slots, recipe: Protocol, rng: np.random.Generator) -> Slots:
    """The positions that a protocol draws."""
    if recipe.positions is None or recipe.positions >= len(slots.document):
        return slots
    drawn = choose_tokens(recipe, slots.document, rng)
    return replace(
        slots,
        document=slots.document[drawn],
        position=slots.position[drawn],
        expert=slots.expert[drawn],
        value=slots.value[drawn],
    )
