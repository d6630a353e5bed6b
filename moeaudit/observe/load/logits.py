"""The router's mean logit of every expert, chosen or not: what a trace does not keep."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from moeaudit.errors import ContractError
from moeaudit.models import Model
from moeaudit.text.for_model import tokens_for

from ..layers import layer_records
from ..slots import chosen_logits


def router_logits(model: Model, docs: Any, *, max_length: int | None = None) -> pd.DataFrame:
    """Mean raw router logit of every expert over all tokens that have a next token.

    A trace holds the logits of chosen experts only. Released code of arXiv 2606.10703 reports
    this mean under the name of utilisation, which it is not; `stats.defective_metrics` takes this
    table to show what that does.

    Args:
        model, docs, max_length: as for `capture`.

    Returns:
        Columns layer, expert, logit (float64), one row per layer and expert.

    Raises:
        ContractError: a layer whose router shows no raw logits, with the reason.
    """
    tokenized = tokens_for(model, docs, max_length)
    sums: dict[int, torch.Tensor] = {}
    tokens = 0
    for chunk in tokenized.chunks:
        rows = len(chunk.ids) - 1
        tokens += rows
        _, records = layer_records(model, torch.from_numpy(chunk.ids)[None].to(model.device))
        for index, record in records.items():
            layer = model.anatomy[index]
            every = torch.arange(layer.num_experts, device=record.index.device)
            asked = replace(record, index=every.expand(len(record.index), -1))
            logits, why = chosen_logits(layer, asked)  # [time, num_experts]
            if logits is None:
                raise ContractError(
                    f"The router of layer {index} ({layer.router_path}) shows no raw logits: {why}. "
                    "A mean logit was asked for; use the metrics that need none."
                )
            part = logits[:rows].double().sum(dim=0)
            sums[index] = sums[index] + part if index in sums else part
    frames = [
        pd.DataFrame(
            {"layer": index, "expert": range(len(total)), "logit": (total / tokens).cpu().numpy()}
        )
        for index, total in sums.items()
    ]
    return pd.concat(frames, ignore_index=True)
