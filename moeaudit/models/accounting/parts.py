"""Parameters by what they are for, and how many of each a token uses."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from torch import nn

from moeaudit.frames import Frame

from .shapes import Shapes

PARTS = (
    *("embedding", "attention", "router", "routed experts", "shared experts"),
    *("dense layers", "other", "head"),
)


def parts_of(model: nn.Module, shapes: Shapes) -> Frame:
    """One row for each part of `PARTS` that the model has: part, parameters, active.

    `active`: of them, those that one token uses; of the embedding one row, of routed experts top-k of them. A head
    tied to the embedding has no parameters of its own and is used whole. Tensors that several decoder layers share
    (a bank of tied experts) are counted once in `parameters` and at every site in `active`, as operations are: a token
    goes through them again. Zero experts have no weights; all picks are counted as of others. `other`: norms, biases
    outside of attention, convolutions and state-space layers.
    """
    held, used = dict.fromkeys(PARTS, 0), dict.fromkeys(PARTS, 0)
    head = model.get_output_embeddings().weight  # type: ignore[operator]
    embedding = model.get_input_embeddings().weight  # type: ignore[operator]
    moe = {layer.experts_path: layer for layer in shapes.moe}
    seen: set[int] = set()
    sites: set[tuple[str, int]] = set()
    for path, parameter in model.named_parameters(remove_duplicate=False):
        site = (_decoder_layer(path, shapes), id(parameter))
        if site in sites:  # one module under two names
            continue
        sites.add(site)
        count = parameter.numel()
        own = 0 if id(parameter) in seen else count
        seen.add(id(parameter))
        if parameter is embedding:
            held["embedding"] += own
            used["embedding"] = shapes.hidden
            continue
        if parameter is head:
            held["head"] += own
            continue
        layer = next((moe[owner] for owner in _owners(path) if owner in moe), None)
        if layer is not None:
            held["routed experts"] += own
            used["routed experts"] += count * layer.top_k // layer.num_experts
            continue
        part = _part(path, parameter.ndim, shapes)
        held[part] += own
        used[part] += count
    used["head"] = shapes.head
    return pd.DataFrame(
        {
            "part": [part for part in PARTS if held[part] or used[part]],
            "parameters": [held[part] for part in PARTS if held[part] or used[part]],
            "active": [used[part] for part in PARTS if held[part] or used[part]],
        }
    )


def _decoder_layer(path: str, shapes: Shapes) -> str:
    """The number of the decoder layer that a parameter stands in; empty outside of them."""
    inside = path.removeprefix(f"{shapes.anatomy.layers_path}.")
    return "" if inside == path else inside.partition(".")[0]


def _owners(path: str) -> Iterator[str]:
    """The modules around a parameter, innermost first."""
    while "." in path:
        path = path.rpartition(".")[0]
        yield path


def _part(path: str, ndim: int, shapes: Shapes) -> str:
    names = path.split(".")
    if any(("attn" in n or "attention" in n) and not n.endswith("norm") for n in names):
        return "attention"
    if any("shared" in name for name in names):
        return "shared experts"
    block = next((layer for layer in shapes.moe if path.startswith(f"{layer.block_path}.")), None)
    if block is not None and any("gate" in n or "router" in n for n in names[-3:-1]):
        return "router"
    inside = path.startswith(f"{shapes.anatomy.layers_path}.")
    mlp = any(name in ("mlp", "feed_forward", "block_sparse_moe", "ffn") for name in names)
    return "dense layers" if inside and mlp and ndim == 2 else "other"
