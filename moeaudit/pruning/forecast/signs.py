"""What a census of few documents and the router say about a model before anything is pruned: signs of prunability."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from moeaudit.causal.census import ablate
from moeaudit.causal.operators import Operator
from moeaudit.causal.operators.reroute import Reroute
from moeaudit.causal.operators.several.coalitions import Coalitions
from moeaudit.errors import InputError
from moeaudit.models import Model
from moeaudit.observe import capture, load_balance
from moeaudit.stats.sets.interactions import interactions, redundancy
from moeaudit.text import TokenizedCorpus
from moeaudit.text.for_model import tokens_for

from ..steps import Steps, steps_of

SIGNS = {
    "harm": "mean harm of one removal, nats",
    "concentration": "Gini coefficient of the experts' total harm (0: all alike, 1: one expert has it all)",
    "additive_25": "harm of the quarter of experts that is cheapest, summed as if removals added up, nats a token",
    "additive_50": "the same of the cheapest half, nats a token",
    "redundancy": "1 - (harm of a token's active experts together) / (sum of their harms), over layers",
    "interaction": "mean |interaction| of two active experts over the mean size of what they do together",
    "substitution": "harm left when the router's next choice enters, over the harm of plain removal",
    "entropy": "entropy of the experts' use over its maximum, mean of the layers",
    "separation": "load balance by document over that of all, mean of the layers (1: documents use the same experts)",
    "agreement": "rank correlation of the experts' harm between two halves of the documents, mean of the layers",
}
LEAST = 8  # documents: two halves with anything to agree on


@dataclass(frozen=True)
class Signs:
    """The signs of one model. `values` holds each of `SIGNS`, None where there is none; `reasons` says why."""

    model: str
    values: dict[str, float | None]
    reasons: dict[str, str]
    clean_nll: float
    documents: int
    tokens: int
    experts: int
    top_k: int
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def signs_of(
    model: Model, docs: Any, *, max_length: int | None = None, progress: Steps | None = None
) -> Signs:
    """The signs of prunability of `model` on `docs`, a few dozen documents; nothing is pruned for it.

    Three passes: routing, all single removals and pairs and whole layers (`Coalitions`), and the removals with
    the router's next choice in place (`Reroute`). Harm is signed change of the loss, nats. `docs` as for `ablate`.

    Raises InputError for fewer than 8 documents, and for a model of one active expert a token (nothing to take
    together).
    """
    texts = tokens_for(model, docs, max_length)
    if texts.n_documents < LEAST:
        raise InputError(
            f"The forecast was given {texts.n_documents} documents; {LEAST} or more are needed, since the rank "
            "agreement of the harm compares two halves of them."
        )
    require_several(model)
    ks = sorted({layer.top_k for layer in model.anatomy.layers})
    tell = steps_of(progress)
    tell.stage("routing", len(texts.chunks), "texts")
    trace = capture(model, texts, progress=tell.advance)

    def rows_of(name: str, operator: Operator) -> Any:
        rows = sum(operator.rows(layer) for layer in model.anatomy.layers) * texts.n_targets
        tell.stage(name, rows, "rows")
        return pd.DataFrame(ablate(model, texts, operator, progress=tell.advance))

    sets = rows_of("removals", Coalitions(tuple(dict.fromkeys((1, 2, *ks)))))
    moved = rows_of("removals, rerouted", Reroute())
    return _signs(model, texts, trace, sets, moved)


def require_several(model: Model) -> None:
    """Raise InputError for a model with layers of one active expert a token."""
    if min(layer.top_k for layer in model.anatomy.layers) < 2:
        raise InputError(
            f"{model.name} has layers with one active expert a token, so that nothing can be said of experts taken "
            "together. The forecast needs top-2 or more."
        )


def _signs(model: Model, texts: TokenizedCorpus, trace: Any, sets: Any, moved: Any) -> Signs:
    members = sets["members"].to_numpy(np.int64)
    alone = sets[(members & (members - 1)) == 0]
    sizes = {layer.index: layer.num_experts for layer in model.anatomy.layers}
    tokens = int(alone.groupby("layer").apply(_tokens, include_groups=False).iloc[0])
    totals = _totals(alone, sizes)
    values: dict[str, float | None] = {"harm": float(alone["delta_nll"].mean())}
    reasons: dict[str, str] = {}
    values["concentration"] = gini(np.concatenate([np.maximum(t, 0) for t in totals.values()]))
    for share in (25, 50):
        values[f"additive_{share}"] = (
            sum(_cheapest(t, share / 100) for t in totals.values()) / tokens
        )
    together: Any = redundancy(sets)
    known = together[together["estimable"]]
    values["redundancy"] = None if known.empty else 1 - float(
        known["joint"].sum() / known["sum_of_singles"].sum()
    )  # fmt: skip
    if known.empty:
        reasons["redundancy"] = "in no layer is the sum of single harms told apart from 0"
    pairs: Any = interactions(sets)
    size = float(pairs["joint"].abs().mean())
    values["interaction"] = float(pairs["interaction"].abs().mean()) / size if size else None
    if not size:
        reasons["interaction"] = "no pair of experts does anything"
    plain = values["harm"]
    assert plain is not None
    values["substitution"] = float(moved["delta_nll"].mean()) / plain if plain > 0 else None
    if plain <= 0:
        reasons["substitution"] = f"plain removal does no harm on average ({plain:.2g} nats)"
    balance: Any = load_balance(trace)
    values["entropy"] = float((np.log(balance["effective"]) / np.log(balance["experts"])).mean())
    values["separation"] = float(balance["separation"].mean())
    values["agreement"] = _agreement(alone)
    if values["agreement"] is None:
        reasons["agreement"] = "no layer has three experts that both halves of the documents use"
    layers = model.anatomy.layers
    return Signs(
        model=model.name,
        values={name: values[name] for name in SIGNS},
        reasons=reasons,
        clean_nll=float(trace.tokens["nll"].mean()),
        documents=texts.n_documents,
        tokens=tokens,
        experts=max(sizes.values()),
        top_k=layers[0].top_k,
        notes=tuple(texts.notes),
    )


def gini(values: Float[np.ndarray, " n"]) -> float:
    """Gini coefficient of numbers that are not negative: 0 where all are alike, 1 - 1/n where one has it all."""
    x = np.sort(np.asarray(values, dtype=np.float64))
    total, n = x.sum(), len(x)
    if not total:
        return 0.0
    return float((2 * np.arange(1, n + 1) - n - 1) @ x / (n * total))


def _tokens(rows: Any) -> int:
    return len(rows[["document", "position"]].drop_duplicates())


def _totals(alone: Any, sizes: dict[int, int]) -> dict[int, Float[np.ndarray, " experts"]]:
    """Each expert's harm summed over the tokens that chose it, by layer; 0 for one that no token chose."""
    summed = alone.groupby(["layer", "expert"])["delta_nll"].sum()
    out = {layer: np.zeros(count) for layer, count in sizes.items()}
    for (layer, expert), harm in summed.items():
        out[layer][expert] = harm
    return out


def _cheapest(totals: Float[np.ndarray, " experts"], share: float) -> float:
    """Total harm of the share of experts that has the least."""
    count = math.floor(share * len(totals))
    return float(np.sort(totals)[:count].sum())


def _agreement(alone: Any) -> float | None:
    """Spearman's correlation of the experts' mean harm between odd and even documents, mean of the layers."""
    place = pd.factorize(alone["document"], sort=True)[0] % 2
    means = alone.groupby(["layer", "expert", place])["delta_nll"].mean().unstack()
    both = means.dropna()
    found = [
        part[0].corr(part[1], method="spearman")
        for _, part in both.groupby(level="layer")
        if len(part) >= 3
    ]
    known = [rho for rho in found if rho == rho]
    return float(np.mean(known)) if known else None
