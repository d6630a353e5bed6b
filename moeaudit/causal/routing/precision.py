"""`router_precision`: which selections change with the router's precision, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from moeaudit.errors import ContractError, InputError, one_of
from moeaudit.frames import Frame
from moeaudit.frames.shown import bullets, paragraph, table
from moeaudit.frames.waiting import counting
from moeaudit.models import Model
from moeaudit.models.experts.pool import router_answer
from moeaudit.models.forward import ExpertsSeen, clean_pass, evaluating
from moeaudit.models.placement.stream import stream_of
from moeaudit.stats.clustered import Clustered
from moeaudit.text.for_model import tokens_for

from .rounded import PRECISIONS, routers_in


@dataclass(frozen=True)
class RouterPrecision:
    """What routers in another precision choose, and what the model loses by it.

    `selections`: precision, layer, tokens, changed (share of tokens whose set of experts is another, along the model's
    own course), here (the same from the clean hidden states, so of this layer's rounding alone), with 95 % limits over
    documents. `cost`: precision, tokens (all, changed: with another set in at least one layer, unchanged), rows,
    documents, delta_nll in nats with limits. `tokens`: one row a precision and token.
    """

    name: str
    selections: Frame = field(repr=False)
    cost: Frame
    tokens: Frame = field(repr=False)
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        said = []
        for precision, part in self.selections.groupby("precision", sort=False):
            cost = self.cost[self.cost["precision"] == precision].set_index("tokens")
            line = f"{precision}: {part['changed'].mean():.2%} of selections change"
            for what in ("all", "changed"):
                if what in cost.index:
                    row = cost.loc[what]
                    where = "NLL" if what == "all" else "where they do,"
                    limits = f" [{row['delta_nll_low']:+.2g}, {row['delta_nll_high']:+.2g}]"
                    line += f", {where} {row['delta_nll']:+.2g}" + (
                        limits if row["documents"] > 1 else ""
                    )
            said.append(f"{line} nats a token")
        return f"{self.name}, routers in another precision. " + "; ".join(said) + "."

    def _repr_html_(self) -> str:
        return (
            paragraph(repr(self))
            + table(self.cost)
            + table(self.selections, most=24)
            + bullets(self.notes)
        )


@torch.no_grad()
def router_precision(
    model: Model,
    docs: Any,
    precisions: Iterable[str] = PRECISIONS,
    *,
    max_length: int | None = None,
    progress: Callable[[int], None] | Literal[False] | None = None,
) -> RouterPrecision:
    """Run the model with its routers' scores computed in each precision, everything else as it is.

    Scores are made of rounded inputs and weights (`rounded.routers_in` says how); the model's own rule makes the choice
    of them. Compared are the sets of chosen experts of every token and layer, and the loss of every token, with those
    of the model as it is.

    Args:
        model: a loaded model that is not streamed.
        docs: as for `capture`.
        precisions: among float32, bfloat16, int8.
        max_length: of pieces, in tokens.
        progress: as for `capture`.

    Raises:
        InputError: another precision, a streamed model.
        ContractError: a router that is not found or does not make its scores by one linear map.
    """
    wanted = list(
        dict.fromkeys(one_of(each, PRECISIONS, "precision of routers") for each in precisions)
    )
    if not wanted:
        raise InputError(f"No precision was named; some of {', '.join(PRECISIONS)} were expected.")
    if stream_of(model.hf) is not None:
        raise InputError(
            f"{model.name} is streamed; router precision needs its weights in place (offload=None)."
        )
    tokenized = tokens_for(model, docs, max_length)
    layers = model.anatomy.layers
    rows, choices = [], []
    with (
        counting(progress, "router precision", len(tokenized.chunks), "texts") as tell,
        evaluating(model.hf),
    ):
        for chunk in tokenized.chunks:
            ids = torch.from_numpy(chunk.ids)[None].to(model.device)
            clean, seen = clean_pass(model, layers, ids)
            nll = _nll(clean, ids[0])
            for precision in wanted:
                with routers_in(layers, precision):
                    logits, theirs = clean_pass(model, layers, ids)
                    # The model's own block may not run alone; its router does, on what the experts were given.
                    alone = {layer.index: _alone(layer, seen[layer.index]) for layer in layers}
                moved = {i: _moved(seen[i].index, theirs[i].index) for i in seen}
                here = {
                    i: None if chosen is None else _moved(seen[i].index, chosen)
                    for i, chosen in alone.items()
                }
                count = np.stack([moved[i] for i in moved]).sum(0)[: len(nll)]
                rows.append(
                    pd.DataFrame(
                        {
                            "precision": precision,
                            "document": chunk.document,
                            "position": chunk.start + np.arange(len(nll)),
                            "changed_layers": count,
                            "delta_nll": _nll(logits, ids[0]) - nll,
                        }
                    )
                )
                for i, each in moved.items():
                    mine = np.nan if here[i] is None else here[i].astype(float)  # type: ignore[union-attr]
                    choices.append(
                        pd.DataFrame(
                            {"precision": precision, "layer": i, "document": chunk.document}
                            | {"changed": each.astype(float), "here": mine}
                        )
                    )
            tell(1)
    tokens, chosen = pd.concat(rows, ignore_index=True), pd.concat(choices, ignore_index=True)
    selections = Clustered(by=["precision", "layer"], values=["changed", "here"])(chosen)
    order = pd.Categorical(selections["precision"], wanted)
    selections = selections.assign(precision=order).sort_values(
        ["precision", "layer"], ignore_index=True
    )
    selections = selections.assign(precision=selections["precision"].astype(str))
    silent = selections.loc[selections["here"].isna(), "layer"].unique().tolist()
    said = f"In layers {silent} `here` is null: their routers give no choice when they are called on their own."
    notes = (*tokenized.notes, *([said] if silent else []))
    return RouterPrecision(
        model.name,
        selections.rename(columns={"rows": "tokens"}),
        _cost(tokens, wanted),
        tokens,
        notes,
    )


def _cost(tokens: Frame, wanted: list[str]) -> Frame:
    parts = []
    for what, keep in (
        ("all", tokens["changed_layers"] >= 0),
        ("changed", tokens["changed_layers"] > 0),
        ("unchanged", tokens["changed_layers"] == 0),
    ):
        if keep.any():
            found = Clustered(by=["precision"], values=["delta_nll"])(tokens[keep])
            parts.append(found.assign(tokens=what))
    whole: Any = pd.concat(parts, ignore_index=True)
    place = whole["precision"].map({name: i for i, name in enumerate(wanted)})
    whole = whole.assign(place=place).sort_values("place", kind="stable").drop(columns="place")
    return whole.reset_index(drop=True)


def _alone(layer: Any, seen: ExpertsSeen) -> torch.Tensor | None:
    """Whom the router chooses from the clean hidden states; None where it hands out no choice."""
    try:
        answer = router_answer(layer, seen.hidden)
    except ContractError:
        return None  # said in the notes
    for each in answer:
        chosen = isinstance(each, torch.Tensor) and not each.is_floating_point()
        if chosen and each.numel() == seen.index.numel():
            return each.reshape(seen.index.shape)
    return None


def _moved(one: torch.Tensor, other: torch.Tensor) -> np.ndarray:
    return (one.sort(-1).values != other.sort(-1).values).any(-1).cpu().numpy()


def _nll(logits: torch.Tensor, ids: torch.Tensor) -> np.ndarray:
    """Loss of each token that has a next one, nats, from at least float32."""
    of = torch.log_softmax(logits[:-1].double(), -1)
    return -of.gather(-1, ids[1:, None])[:, 0].cpu().numpy()
