"""Which tokens go to nobody: the share of zero picks by layer and kind of token, and the FLOPs that it saves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from moeaudit.errors import InputError
from moeaudit.models.experts.zero import ZeroExperts, blocks_of
from moeaudit.observe import Trace
from moeaudit.stats.clustered import Clustered

CLASSES = (
    "first of a document",
    "space",
    "digit",
    "punctuation",
    "word begins",
    "word goes on",
    "other",
)


def token_classes(tokens: pd.DataFrame) -> pd.Series:
    """The kind of each token of a trace's `tokens` (columns position, text), one of `CLASSES`, by its characters."""

    def kind(position: int, text: str) -> str:
        bare = text.strip()
        if position == 0:
            return CLASSES[0]
        if not bare:
            return CLASSES[1]
        if all(c.isdigit() for c in bare):
            return CLASSES[2]
        if not any(c.isalnum() for c in bare):
            return CLASSES[3]
        if not bare[0].isalpha():
            return CLASSES[6]
        return CLASSES[4] if text[0].isspace() or bare[0].isupper() else CLASSES[5]

    kinds = [kind(p, str(t)) for p, t in zip(tokens["position"], tokens["text"])]
    return pd.Series(pd.Categorical(kinds, categories=CLASSES), index=tokens.index, name="class")


def _zero(model: Any) -> tuple[ZeroExperts, dict[int, int]]:
    hf = getattr(model, "hf", model)
    zero = ZeroExperts.of(hf.config)
    if zero is None:
        raise InputError(
            f"{getattr(model, 'name', type(hf).__name__)} has no zero experts, so no pick of it is one. Add some: "
            "moeaudit.lab.zero.add_zero_experts(model, count)."
        )
    return zero, {layer.index: layer.num_experts - zero.count for layer in model.anatomy.layers}


def zero_picks(model: Any, trace: Trace) -> pd.DataFrame:
    """How many of a token's picks are zero experts, by layer: document, position, layer, zero, top_k, skipped.

    `skipped` is zero / top_k. `model` is a loaded model with zero experts and `trace` what `capture` saw of it.
    """
    _, real = _zero(model)
    routing: Any = trace.routing
    on_zero = routing["expert"].to_numpy() >= routing["layer"].map(real).to_numpy()
    keys = ["document", "position", "layer"]
    table = routing[keys].assign(zero=on_zero.astype(np.int64), top_k=1)
    found: Any = table.groupby(keys, sort=True).sum().reset_index()
    return found.assign(skipped=found["zero"] / found["top_k"])


def zero_share(model: Any, trace: Trace, level: float | int = 0.95) -> pd.DataFrame:
    """The share of picks that fall on zero experts, with limits by document.

    Columns layer (-1 for all together), class ("all", or a kind of `token_classes`), share, low, high, tokens,
    documents; kinds that do not occur have no row, and limits are null where one document has the kind.
    """
    picks = zero_picks(model, trace)
    classes = trace.tokens[["document", "position"]].assign(
        **{"class": token_classes(trace.tokens)}
    )
    whole: Any = picks.merge(classes, on=["document", "position"], validate="many_to_one")
    whole["class"] = whole["class"].astype(str)
    parts = []
    for layers in (whole.assign(layer=-1), whole):
        for by in (layers.assign(**{"class": "all"}), layers):
            parts.append(Clustered(by=["layer", "class"], values=["skipped"], level=level)(by))
    table: Any = pd.concat(parts, ignore_index=True).rename(
        columns={"skipped": "share", "skipped_low": "low", "skipped_high": "high", "rows": "tokens"}
    )
    table["tokens"] = np.where(
        table["layer"] == -1, table["tokens"] // len(trace.layers), table["tokens"]
    )
    return table[["layer", "class", "share", "low", "high", "tokens", "documents"]]


def flops_saved(model: Any, share: Float[np.ndarray, " layers"] | list[float]) -> dict[str, float]:
    """What a share of zero picks in each MoE layer saves of a token's matrix products.

    `experts`: of the products of the routed experts at a full top-k. `model`: of all products with a weight that a
    token meets (embedding looked up, not multiplied; scores of attention left out, which depend on length).
    `flops`: FLOPs a token that are saved, two for each weight.
    """
    hf = getattr(model, "hf", model)
    blocks = blocks_of(hf)
    shares = np.asarray(share, dtype=np.float64)
    if shares.shape != (len(blocks),):
        raise InputError(
            f"{len(shares)} shares were given, and the model has {len(blocks)} MoE layers; one for each was expected."
        )
    layers = {layer.experts_path: layer for layer in model.anatomy.layers}
    each = np.array(
        [
            sum(p[0].numel() for p in block.experts.parameters() if p.dim() > 1)
            * layers[block.path].top_k
            for block in blocks
        ],
        dtype=np.float64,
    )
    stacked = {id(p) for block in blocks for p in block.experts.parameters()}
    table = hf.get_input_embeddings().weight
    around = sum(p.numel() for p in hf.parameters() if id(p) not in stacked and p.dim() == 2)
    head = hf.get_output_embeddings()
    if head is None or head.weight is not table:
        around -= table.numel()
    saved = float((each * shares).sum())
    return {
        "experts": saved / float(each.sum()),
        "model": saved / float(each.sum() + around),
        "flops": 2 * saved,
    }
