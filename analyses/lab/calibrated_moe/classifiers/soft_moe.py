"""Small classifier mixtures: soft-routed (all experts are averaged) and hard-routed (one answers).

Both have one trunk, K linear experts that each give class probabilities p_k(x), and a router MLP
with weights r(x) on the simplex. Soft routing answers f = sum_k r_k p_k, hard routing
f = p_e with e = argmax r. They are the two cases of arXiv 2606.20544; a sparse language model is
neither, since it mixes hidden states and not probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from moeaudit.errors import InputError

Routing = Literal["soft", "hard"]

# A wrong winner can be worse than its rival by any factor; the router's step need not follow it.
_RATIO_CAP = 100.0


@dataclass(frozen=True)
class Mixed:
    """One batch of answers. All three are logarithms or shares that sum to one along the last axis.

    `routing` is what the answer used: for hard routing one-hot. `router_logits` are kept as they are.
    """

    log_probs: Float[Tensor, "samples classes"]
    routing: Float[Tensor, "samples experts"]
    expert_log_probs: Float[Tensor, "samples experts classes"]
    router_logits: Float[Tensor, "samples experts"]


class ClassifierMoE(nn.Module):
    """Trunk, router and linear experts. `trunk` maps inputs to (samples, width).

    Hard routing learns its router by a straight-through rule: the answer is the winner's alone, and
    the router gets the gradient it would have got had the answer been sum_k r_k p_k at r = one-hot,
    that is d log f(y) / d r_k = p_k(y) / p_e(y), through the softmax. Ratios are capped at
    100. Losing experts get no gradient.
    """

    def __init__(
        self,
        trunk: nn.Module,
        width: int,
        classes: int,
        experts: int = 4,
        routing: Routing = "soft",
        hidden: int = 128,
    ) -> None:
        super().__init__()
        if routing not in ("soft", "hard"):
            raise InputError(f"The routing of a mixture is 'soft' or 'hard', not {routing!r}.")
        if experts < 2 or classes < 2:
            raise InputError(
                f"A mixture needs at least 2 experts and 2 classes, not {experts} and {classes}."
            )
        self.routing = routing
        self.classes = classes
        self.trunk = trunk
        self.router = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, experts))
        self.experts = nn.Linear(width, experts * classes)  # all linear experts, side by side

    def forward(self, inputs: Tensor) -> Mixed:
        """Answers to a batch; shape and type of `inputs` are the trunk's."""
        features = self.trunk(inputs)  # (n, width)
        logits = self.router(features)  # (n, K)
        each = self.experts(features).unflatten(-1, (-1, self.classes)).log_softmax(-1)  # (n, K, C)
        if self.routing == "soft":
            log_r = logits.log_softmax(-1)
            log_probs = torch.logsumexp(log_r[..., None] + each, dim=1)  # (n, C)
            return Mixed(log_probs, log_r.exp(), each, logits)
        best = logits.argmax(-1)  # (n,)
        one_hot = F.one_hot(best, logits.shape[-1]).to(logits.dtype)
        chosen = each[torch.arange(len(best)), best]  # (n, C)
        return Mixed(chosen + _straight_through(logits, each, chosen), one_hot, each, logits)


def _straight_through(
    logits: Float[Tensor, "samples experts"],
    each: Float[Tensor, "samples experts classes"],
    chosen: Float[Tensor, "samples classes"],
) -> Float[Tensor, "samples classes"]:
    """Exactly zero, with the gradient of log sum_k r_k p_k at r = one-hot with respect to r."""
    r = logits.softmax(-1)
    ratio = (each - chosen[:, None]).detach().exp().clamp(max=_RATIO_CAP)  # (n, K, C)
    return ((r - r.detach())[..., None] * ratio).sum(1)


class PixelTrunk(nn.Module):
    """Two fully connected layers on flattened images, pixel values in [0, 1]."""

    def __init__(self, pixels: int, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )

    def forward(self, images: Float[Tensor, "samples pixels"]) -> Float[Tensor, "samples width"]:
        return self.layers(images)


class ContextTrunk(nn.Module):
    """Embeddings of the last symbols side by side, then one layer. Inputs are symbol numbers."""

    def __init__(self, symbols: int, context: int, width: int = 128, each: int = 16) -> None:
        super().__init__()
        self.embed = nn.Embedding(symbols, each)
        self.layer = nn.Linear(context * each, width)

    def forward(self, symbols: Int[Tensor, "samples context"]) -> Float[Tensor, "samples width"]:
        return self.layer(self.embed(symbols).flatten(1)).relu()


def configurations(
    routing: Float[Tensor, "samples experts"], top: int = 2
) -> Int[Tensor, " samples"]:
    """A number for the ordered `top` experts with the largest weights of every sample.

    The routing configuration of the paper is the whole router vector with all expert outputs, a
    continuum in which every sample is alone. This is the coarsest view that still counts samples:
    below K^top numbers, of which at most K (K - 1) ... occur.
    """
    experts = routing.shape[-1]
    if not 1 <= top <= experts:
        raise InputError(f"top lies between 1 and the number of experts {experts}, not at {top}.")
    best = routing.topk(top, dim=-1).indices  # (n, top), largest first
    place = experts ** torch.arange(top - 1, -1, -1)
    return (best * place).sum(-1)
