"""What a counterfactual did to the prediction of the next token, measured without cancellation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True)
class Outcomes:
    """Effects on the prediction of token t+1, one for each counterfactual; nats.

    `delta_nll` = NLL(ablated) - NLL(clean); `kl` = KL(clean || ablated); `flip` = top-1 changed.
    """

    delta_nll: Float[torch.Tensor, "positions rows"]
    kl: Float[torch.Tensor, "positions rows"]
    flip: Bool[torch.Tensor, "positions rows"]


def compare(
    clean: Float[torch.Tensor, "positions vocab"],
    edited: Float[torch.Tensor, "positions rows vocab"],
    target: Int[torch.Tensor, " positions"],
) -> Outcomes:
    r"""Compare edited with clean logits.

    With $\delta = z' - z$ and $p$ the clean distribution, $m = \log \sum_v p_v e^{\delta_v}$ is the
    change of the normaliser, so NLL changes by $m - \delta_y$ and $KL(p || p') = m - \sum_v p_v
    \delta_v$. Small effects keep their digits because no two large numbers are subtracted.
    """
    clean = clean.float()
    p = torch.softmax(clean, -1)  # (positions, vocab)
    delta = edited.float() - clean[:, None]  # (positions, rows, vocab)
    # A constant shift of all logits changes nothing; taking out its mean keeps expm1 small.
    delta = delta - torch.einsum("prv,pv->pr", delta, p)[..., None]
    grown = torch.einsum("prv,pv->pr", torch.expm1(delta.clamp(max=60.0)), p)
    shift = torch.log1p(grown)
    large = delta.amax(-1) > 60.0
    if bool(large.any()):
        exact = torch.logsumexp(torch.log_softmax(clean, -1)[:, None] + delta, -1)
        shift = torch.where(large, exact, shift)
    at = target[:, None, None].expand(-1, delta.shape[1], 1)
    delta_nll = shift - delta.gather(-1, at).squeeze(-1)
    kl = shift.clamp_min(0.0)  # the mean of delta under p is zero by now
    flip = edited.argmax(-1) != clean.argmax(-1)[:, None]
    return Outcomes(delta_nll, kl, flip)
