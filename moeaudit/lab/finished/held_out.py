"""What a trained model does with documents it has not read: its loss by domain, its routing by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from moeaudit.seeds import generator

from ..training.balance import load_balance, router_entropy
from ..training.data import Tokens
from ..training.model import Routers


@dataclass
class HeldOut:
    """Tables of a reading: one row a domain, one row a MoE layer."""

    nll: float  # nats a token, mean of the domains
    domains: list[dict[str, Any]]
    layers: list[dict[str, Any]]


def drawn(texts: dict[str, list[Tokens]], count: int) -> dict[str, list[Tokens]]:
    """The same `count` documents a domain for every recipe on the same text; all if there are fewer."""
    chosen = {}
    for domain, docs in texts.items():
        long = [doc for doc in docs if len(doc) > 2]
        order = generator(0, "held out", domain).permutation(len(long))[:count]
        chosen[domain] = [long[i] for i in sorted(order)]
    return chosen


@torch.no_grad()
def read_held_out(model: Any, texts: dict[str, list[Tokens]], context: int) -> HeldOut:
    """Predict the first `context` tokens of every document of `texts` (as `drawn` gives them).

    `nll` of a domain is in nats a token over all its tokens; `se` the standard error of its documents' means.
    Loads and entropies are over the tokens of all domains.
    """
    routers, device = Routers(model), next(model.parameters()).device
    seen: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    domains = []
    try:
        for domain, docs in texts.items():
            sums, counts = [], []
            for doc in docs:
                ids = torch.from_numpy(doc[: context + 1].astype(np.int64)).to(device)
                logits = model(input_ids=ids[None, :-1], use_cache=False).logits[0].float()
                loss = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum")
                sums.append(loss.item())
                counts.append(len(ids) - 1)
                for layer, (scores, index) in routers.seen.items():
                    seen.setdefault(layer, []).append((scores.cpu(), index.cpu()))
            mean = np.array(sums) / np.array(counts)
            domains.append(
                {
                    "domain": domain,
                    "documents": len(docs),
                    "tokens": int(sum(counts)),
                    "nll": float(sum(sums) / sum(counts)),
                    "se": float(mean.std(ddof=1) / len(mean) ** 0.5) if len(mean) > 1 else None,
                }
            )
    finally:
        routers.remove()
    layers = [_layer(layer, parts) for layer, parts in sorted(seen.items())]
    return HeldOut(float(np.mean([row["nll"] for row in domains])), domains, layers)


def _layer(layer: int, parts: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, Any]:
    """Routing of one layer. Load is an expert's share of slots times the number of experts: 1 is even, 0 idle."""
    scores, index = (torch.cat(column) for column in zip(*parts))
    experts = scores.shape[1]
    share = torch.bincount(index.reshape(-1), minlength=experts).double() / index.numel()
    return {
        "layer": layer,
        "experts": experts,
        "entropy": float(router_entropy(scores.double().softmax(-1))),
        "balance": float(load_balance(scores.double(), index)),
        "least_load": float(share.min() * experts),
        "greatest_load": float(share.max() * experts),
        "effective_experts": float(torch.exp(-torch.special.xlogy(share, share).sum())),
    }
