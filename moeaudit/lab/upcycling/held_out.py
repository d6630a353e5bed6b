"""Loss of a model on held-out text, by domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor


def by_domain(model: Any, rows: Sequence[tuple[str, Int[Tensor, " tokens"]]]) -> dict[str, float]:
    """Mean NLL in nats a token of every domain of `rows` (domain, token ids), and `all`, the mean over tokens."""
    sums: dict[str, list[float]] = {}
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for domain, ids in rows:
                ids = ids.to(model.device)
                logits = model(input_ids=ids[None, :-1]).logits[0].float()
                nll = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum")
                for name in (domain, "all"):
                    total = sums.setdefault(name, [0.0, 0])
                    total[0] += nll.item()
                    total[1] += len(ids) - 1
    finally:
        model.train(training)
    return {name: total / count for name, (total, count) in sums.items()}
