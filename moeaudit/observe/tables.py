"""From one chunk's clean pass to its two tidy frames."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from moeaudit.models import MoELayer

from .layers import LayerRecord
from .slots import NEXT, chosen_logits, next_in_line, slot_norms

TOKEN_COLUMNS = {
    "document": "int32",
    "domain": "category",
    "position": "int32",
    "token": "int32",
    "text": "str",
    "target": "int32",
    "nll": "float32",
    "entropy": "float32",
    "confidence": "float32",
    "correct": "bool",
}
TOP = {"top": "int32"}  # not in the tables of before
ROUTING_COLUMNS = {
    "document": "int32",
    "position": "int32",
    "layer": "int16",
    "rank": "int8",
    "expert": "int16",
    "logit": "float32",
    "weight": "float32",
    "output_norm": "float32",
    "contribution_norm": "float32",
    "change": "float32",
}
# Columns of one layer, "rows * top_k" each, and the reasons of those that hold nulls.
LayerColumns = tuple[dict[str, np.ndarray], dict[str, str]]
FOLLOWING = {NEXT: "int16"}  # where it is asked for
_POSITIONS = 256  # rows of logits turned into float64 at a time


def prediction_columns(
    logits: Float[Tensor, "time vocab"], targets: Int64[Tensor, " time"]
) -> dict[str, np.ndarray]:
    """NLL, entropy and confidence (nats, nats, probability), whether the top-1 is right, and which it is.

    Computed in float64, a few hundred positions at a time, and rounded to float32 in the frame.
    """
    parts: list[np.ndarray] = []
    for start in range(0, len(targets), _POSITIONS):
        log_p = torch.log_softmax(logits[start : start + _POSITIONS].double(), dim=-1)
        target = targets[start : start + _POSITIONS, None]
        p = log_p.exp()
        entropy = -torch.where(p > 0, p * log_p, 0.0).sum(dim=-1)
        top, guess = p.max(dim=-1)
        right = (guess == target[:, 0]).double()
        nll = -log_p.gather(1, target)[:, 0]
        # Token ids are exact in float64.
        parts.append(torch.stack([nll, entropy, top, right, guess.double()]).cpu().numpy())
    names = ("nll", "entropy", "confidence", "correct", "top")
    return dict(zip(names, np.concatenate(parts, axis=1)))


def tokens_frame(
    document: int,
    domain: str,
    start: int,
    ids: Int64[np.ndarray, " time"],
    pieces: list[str],
    logits: Float[Tensor, "time vocab"],
    domains: list[str],
) -> pd.DataFrame:
    """One row per position that has a target; `domains` fixes the categories of all chunks."""
    rows = len(ids) - 1
    targets = torch.from_numpy(ids[1:]).to(logits.device)
    columns = {
        "document": np.full(rows, document),
        "domain": pd.Categorical([domain] * rows, categories=domains),
        "position": np.arange(start, start + rows),
        "token": ids[:-1],
        "text": pieces[:rows],
        "target": ids[1:],
        **prediction_columns(logits[:rows], targets),
    }
    kinds = TOKEN_COLUMNS | TOP
    return pd.DataFrame({name: columns[name] for name in kinds}).astype(kinds)


def routing_frame(
    document: int, start: int, rows: int, layers: dict[int, LayerColumns]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """One row per (layer, position, rank) of the first `rows` positions, in that order.

    `layers` holds the `layer_columns` of each layer.

    Returns:
        The frame, and for each column with nulls the reason: `{"logit": "layer 3: ..."}`.
    """
    frames, reasons = [], {}
    for index, (columns, why) in layers.items():
        top_k = len(columns["expert"]) // rows
        frames.append(
            {
                "document": np.full(rows * top_k, document),
                "position": np.repeat(np.arange(start, start + rows), top_k),
                "layer": np.full(rows * top_k, index),
                "rank": np.tile(np.arange(top_k), rows),
                **columns,
            }
        )
        for column, reason in why.items():
            reasons.setdefault(column, f"layer {index}: {reason}")
    following = any(NEXT in columns for columns, _ in layers.values())
    kinds = ROUTING_COLUMNS | (FOLLOWING if following else {})
    joined = {name: np.concatenate([frame[name] for frame in frames]) for name in kinds}
    return pd.DataFrame(joined).astype(kinds), reasons


def layer_columns(
    layer: MoELayer, record: LayerRecord, rows: int, following: bool = False
) -> LayerColumns:
    """Flat columns of one layer, slots put into rank order; and why a column holds nulls. With `following` also `next`.

    The experts are asked again for each slot's output: best while their weights are there.
    """
    reasons: dict[str, str] = {}
    weight = record.weight[:rows].float()
    # Slots come in no particular order in some routers; ties keep the order of the slots.
    order = weight.sort(dim=1, descending=True, stable=True).indices  # [rows, top_k]
    norms, _ = slot_norms(layer, record, rows)
    logits, reason = chosen_logits(layer, record)
    if logits is None:
        logits = torch.full_like(record.weight, torch.nan, dtype=torch.float32)
        reasons["logit"] = str(reason)
    change = torch.full((rows,), torch.nan, dtype=torch.float64, device=weight.device)
    if record.residual is None:
        reasons["change"] = str(record.residual_reason)
    else:
        before = record.residual[:rows].double()
        after = before + record.routed[:rows].double()
        # In float64, because 1 - cos of two nearly parallel vectors cancels.
        change = 1 - torch.nn.functional.cosine_similarity(before, after, dim=-1)
    columns = {
        "expert": record.index[:rows].gather(1, order),
        "logit": logits[:rows].gather(1, order),
        "weight": weight.gather(1, order),
        "output_norm": norms.gather(1, order),
        "contribution_norm": (norms * weight.abs()).gather(1, order),
        "change": change[:, None].expand_as(order).float(),
    }
    if following:
        ranked = (columns["expert"], columns["weight"].to(record.weight.dtype))
        columns[NEXT], reason = next_in_line(layer, record.hidden[:rows], *ranked)
        reasons |= {} if reason is None else {NEXT: reason}
    return {name: value.reshape(-1).cpu().numpy() for name, value in columns.items()}, reasons
