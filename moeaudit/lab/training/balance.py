"""Router losses, one value per layer, over the tokens of a step or within groups of them."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def load_balance(
    logits: Float[Tensor, "tokens experts"], index: Int[Tensor, "tokens top_k"]
) -> Float[Tensor, ""]:
    """N sum_i f_i P_i of one layer: 1 when balanced, N / k when the same k experts always win.

    f_i is the share of all slots that went to expert i, P_i the mean softmax probability of i.
    Taken over the whole step (many documents), it asks for balance over the mix and leaves single
    documents free to prefer experts (Qiu et al., "Demons in the Detail", 2025). Unlike
    transformers' `load_balancing_loss_func` it neither pools layers nor grows with k.
    """
    experts = logits.shape[-1]
    share = torch.bincount(index.reshape(-1), minlength=experts).to(logits.dtype) / index.numel()
    return experts * (share * logits.softmax(-1).mean(0)).sum()


def router_z(logits: Float[Tensor, "tokens experts"]) -> Float[Tensor, ""]:
    """Mean squared log partition of one layer's router logits (Zoph et al., ST-MoE, 2022)."""
    return logits.logsumexp(-1).square().mean()


def grouped_balance(
    probabilities: Float[Tensor, "tokens experts"],
    index: Int[Tensor, "tokens top_k"],
    group: Int[Tensor, " tokens"],
) -> Float[Tensor, ""]:
    """Mean over groups of N sum_i f_i P_i, with f and P counted within each group.

    One group of all tokens is the global loss, `load_balance`; groups that each read one domain are the micro-batch
    loss, and rows the sequence loss (Qiu et al., arXiv 2501.11873, section 2). Groups are numbered 0, 1, ... without
    a gap.
    """
    tokens, experts = probabilities.shape
    groups = int(group.max()) + 1
    size = torch.bincount(group, minlength=groups).to(probabilities.dtype)[:, None]
    slot = (group[:, None] * experts + index).reshape(-1)
    count = torch.bincount(slot, minlength=groups * experts).view(groups, experts)
    share = count.to(probabilities.dtype) / (size * index.shape[1])
    mean = probabilities.new_zeros(groups, experts).index_add(0, group, probabilities) / size
    return experts * (share * mean).sum(-1).mean()


def router_entropy(probabilities: Float[Tensor, "tokens experts"]) -> Float[Tensor, ""]:
    """Mean entropy in nats of a token's router probabilities; ln N where it knows nothing."""
    return -torch.special.xlogy(probabilities, probabilities).sum(-1).mean()
