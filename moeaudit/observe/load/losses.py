"""The router losses of training, of logits in an array or of a model on documents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from moeaudit.errors import ContractError
from moeaudit.models import Model
from moeaudit.text.for_model import tokens_for

from ..layers import layer_records
from ..slots import chosen_logits


def switch_loss(logits: Float[np.ndarray, "tokens experts"]) -> float:
    r"""\(E \sum_e f_e P_e\) of Switch Transformers (arXiv 2101.03961): f from the first choice alone, P the softmax.

    1 where both are even. It is differentiated through P only, so it falls where a favourite's probability falls.
    """
    probability = _softmax(np.asarray(logits, dtype=np.float64))
    first = np.bincount(logits.argmax(axis=1), minlength=logits.shape[1]) / len(logits)
    return float(logits.shape[1] * (first * probability.mean(axis=0)).sum())


def router_z_loss(logits: Float[np.ndarray, "tokens experts"]) -> float:
    r"""\(\frac{1}{T} \sum_t (\ln \sum_e e^{x_{te}})^2\) of ST-MoE (arXiv 2202.08906): how large logits have grown."""
    return float(np.mean(_log_partition(np.asarray(logits, dtype=np.float64)) ** 2))


def balance_loss(
    logits: Float[np.ndarray, "tokens experts"], index: Int[np.ndarray, "tokens top_k"]
) -> float:
    r"""\(E \sum_e f_e P_e\) with f the share of all slots and P the mean softmax: 1 where balanced, whatever k.

    transformers' `load_balancing_loss_func` is another number: it pools all layers before it multiplies and its f
    sums to k, so it tends to k.
    """
    share = np.bincount(np.asarray(index).ravel(), minlength=logits.shape[1]) / np.size(index)
    probability = _softmax(np.asarray(logits, dtype=np.float64)).mean(axis=0)
    return float(logits.shape[1] * (share * probability).sum())


def router_losses(model: Model, docs: Any, *, max_length: int | None = None) -> pd.DataFrame:
    """What training would say of each layer's router over these documents, from its whole distribution.

    P is the softmax of the raw logits; of a router that scores by sigmoid it is no part of the model's own rule.

    Args:
        model, docs, max_length: as for `capture`.

    Returns:
        One row per layer: layer, sequence (mean over documents of `balance_loss`), global (over all tokens), switch,
        z (all over all tokens), tokens, experts.

    Raises:
        ContractError: a layer whose router shows no raw logits, with the reason.
    """
    tokenized = tokens_for(model, docs, max_length)
    kept: dict[int, dict[int, list[tuple[np.ndarray, np.ndarray]]]] = {}
    for chunk in tokenized.chunks:
        rows = len(chunk.ids) - 1
        _, records = layer_records(model, torch.from_numpy(chunk.ids)[None].to(model.device))
        for at, record in records.items():
            layer = model.anatomy[at]
            every = torch.arange(layer.num_experts, device=record.index.device)
            logits, why = chosen_logits(
                layer, replace(record, index=every.expand(len(record.index), -1))
            )
            if logits is None:
                raise ContractError(
                    f"The router of layer {at} ({layer.router_path}) shows no raw logits: {why}. The losses of its "
                    "training need them; load_balance reads a trace instead."
                )
            pair = (logits[:rows].float().cpu().numpy(), record.index[:rows].cpu().numpy())
            kept.setdefault(at, {}).setdefault(chunk.document, []).append(pair)
    table = []
    for at in sorted(kept):
        documents = [_joined(pairs) for pairs in kept[at].values()]
        logits, index = _joined(documents)
        table.append(
            {
                "layer": at,
                "sequence": float(np.mean([balance_loss(*each) for each in documents])),
                "global": balance_loss(logits, index),
                "switch": switch_loss(logits),
                "z": router_z_loss(logits),
                "tokens": len(logits),
                "experts": logits.shape[1],
            }
        )
    return pd.DataFrame(table)


def _joined(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])


def _log_partition(logits: np.ndarray) -> np.ndarray:
    top = logits.max(axis=1)
    return top + np.log(np.exp(logits - top[:, None]).sum(axis=1))


def _softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits - _log_partition(logits)[:, None])
