"""What analyses/lab/upcycling measures of a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

import moeaudit as ma
from moeaudit.lab.upcycling import expert_distances
from moeaudit.lab.upcycling.held_out import by_domain
from moeaudit.stats.clustered import over_seeds
from moeaudit.text.for_model import first_tokens

from .arms import ARMS, Plan, made, words

HELD_OUT = (2, 256)  # documents of a domain, tokens of each


def _texts(documents: int) -> Any:
    return ma.corpus("bundled", split="test").sample(documents, seed=0, per_domain=True)


def loss(model: Any) -> float:
    """Held-out loss in nats a token, on the beginnings of test documents of every domain."""
    import torch

    tokenizer = words()
    each, length = HELD_OUT
    rows = [(d.domain, torch.tensor(tokenizer(d.text)["input_ids"][:length])) for d in _texts(each)]
    return by_domain(model, rows)["all"]


def stand_in(model: Any, documents: int, tokens: int) -> dict[str, float]:
    """How well a layer's other experts do an active one's work.

    `removed` and `swapped` are mean KL (nats) when an active expert is taken away, and when another, inactive one is
    put in its place at its weight. `stand_in` = 1 - swapped / removed: 1 where any other expert does as well, 0 where
    another is no better than none, below 0 where it is worse.
    """
    loaded = ma.load(model, tokenizer=words())
    read = first_tokens(loaded, _texts(documents), tokens)
    removed, swapped, other = swapped_and_removed(loaded, read)
    gone, put = float(removed.kl.mean()), float(swapped.kl[other].mean())
    return {
        "removed": gone,
        "swapped": put,
        "swap_most": float(swapped.delta_nll.abs().max()),
        "stand_in": 1 - put / gone,
    }


def swapped_and_removed(loaded: ma.Model, read: Any) -> tuple[Any, Any, np.ndarray]:
    """Removals, swaps with every other expert, and which of the swaps are with one that was not active."""
    removed: Any = ma.ablate(loaded, read, ma.Zero())
    swapped: Any = ma.ablate(loaded, read, ma.Swap("all"))
    place = ["document", "position", "layer"]
    active = removed.groupby(place).expert.agg(set)
    at = active.reindex(pd.MultiIndex.from_frame(pd.DataFrame(swapped[place])))
    return removed, swapped, np.array([e not in a for e, a in zip(swapped.entered, at)])


def before_training(
    dense: Any, plan: Plan, seed: int, documents: int, tokens: int
) -> list[dict[str, Any]]:
    """The planted truth: the same loss as the dense model, copies at distance 0, any swap 0."""
    rows = []
    base = loss(dense)
    for arm, how in ARMS.items():
        if how is None or how.get("reinitialise"):
            continue
        model = made(dense, arm, seed)
        found = loss(model)
        rows.append(
            {"arm": arm, "seed": seed, "steps": plan.dense_steps, "dense_nll": base, "nll": found}
            | {"perplexity_off": float(np.expm1(abs(found - base)))}
            | {"distance": float(expert_distances(model).distance.max())}
            | stand_in(model, documents, tokens)
        )
    return rows


def of_model(model: Any, arm: str, seed: int, documents: int, tokens: int) -> dict[str, Any]:
    """One row for a trained model; distance and stand-in are missing for the dense one."""
    row: dict[str, Any] = {"arm": arm, "seed": seed, "nll": loss(model)}
    if ARMS[arm] is None:
        return row | dict.fromkeys(
            ("distance", "removed", "swapped", "swap_most", "stand_in"), np.nan
        )
    row["distance"] = float(expert_distances(model).distance.mean())
    return row | stand_in(model, documents, tokens)


def by_arm(models: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Means over seeds with Student's 95 % limits, and differences from the dense model of the same seed."""
    wide = models.pivot(index="seed", columns="arm", values="nll")
    gap = [
        {"arm": arm, "seed": seed, "difference": wide.loc[seed, arm] - wide.loc[seed, "dense"]}
        for arm in wide.columns
        if arm != "dense"
        for seed in wide.index
    ]
    sparse = models[models.arm != "dense"]
    values = ["distance", "stand_in", "removed", "swapped"]
    return {
        "losses": _means(models, ["nll"]),
        "differences": _means(pd.DataFrame(gap), ["difference"]),
        "experts": _means(sparse, values),
    }


def _means(frame: pd.DataFrame, values: list[str]) -> pd.DataFrame:
    order = {arm: i for i, arm in enumerate(ARMS)}
    found = over_seeds(frame, ["arm"], values)
    return found.sort_values("arm", key=lambda s: s.map(order.__getitem__)).reset_index(drop=True)
