"""What a counterfactual did to the prediction of the next token, measured without cancellation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

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
    # Further outcomes by column name, each "positions rows".
    extra: dict[str, torch.Tensor] = field(default_factory=dict)

    @staticmethod
    def joined(parts: list[Outcomes], dim: int) -> Outcomes:
        """Several tables as one: more positions (dim 0) or more rows (dim 1)."""
        delta_nll, kl, flip = (
            torch.cat([getattr(x, name) for x in parts], dim)
            for name in ("delta_nll", "kl", "flip")
        )
        extra = {name: torch.cat([x.extra[name] for x in parts], dim) for name in parts[0].extra}
        return Outcomes(delta_nll, kl, flip, extra)


# (clean "positions vocab", edited "positions rows vocab", target "positions") -> "positions rows"
Measure = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def measure(
    clean: Float[torch.Tensor, "positions vocab"],
    edited: Float[torch.Tensor, "positions rows vocab"],
    target: Int[torch.Tensor, " positions"],
    extra: Mapping[str, Measure],
) -> Outcomes:
    """`compare`, and further outcomes of the same logits. `edited` may be used as scratch space."""
    columns = {name: outcome(clean, edited, target) for name, outcome in extra.items()}
    plain = compare(clean, edited, target)
    return Outcomes(plain.delta_nll, plain.kl, plain.flip, columns)


_CACHED = 1 << 18  # elements worked on at once, so that the passes below stay in the cache


def compare(
    clean: Float[torch.Tensor, "positions vocab"],
    edited: Float[torch.Tensor, "positions rows vocab"],
    target: Int[torch.Tensor, " positions"],
) -> Outcomes:
    r"""Compare edited with clean logits. `edited` may be used as scratch space.

    With $\delta = z' - z$ and $p$ the clean distribution, $m = \log \sum_v p_v e^{\delta_v}$ is the
    change of the normaliser, so NLL changes by $m - \delta_y$ and $KL(p || p') = m - \sum_v p_v
    \delta_v$. Small effects keep their digits because no two large numbers are subtracted.
    """
    positions, rows, vocab = edited.shape
    clean = clean.float()
    top = clean.argmax(-1)
    p = torch.softmax(clean, -1)
    step = max(1, _CACHED // (rows * vocab))
    parts = []
    for a in range(0, positions, step):
        part = slice(a, a + step)
        parts.append(_compare(clean[part], p[part], edited[part].float(), target[part], top[part]))
    delta_nll, kl, flip = (torch.cat(column) for column in zip(*parts))
    return Outcomes(delta_nll, kl, flip)


def _compare(
    clean: torch.Tensor,
    p: torch.Tensor,
    edited: torch.Tensor,
    target: torch.Tensor,
    top: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    flip = edited.argmax(-1) != top[:, None]
    delta = edited.sub_(clean[:, None])  # (positions, rows, vocab)
    if not bool(torch.isfinite(clean).all()):  # a model may forbid a token with a logit of -inf
        delta.masked_fill_((clean == -torch.inf)[:, None] & delta.isnan(), 0.0)
    weights = p[..., None]  # (positions, vocab, 1)
    # A constant shift of all logits changes nothing; without its mean, expm1 stays small.
    delta = delta.sub_(torch.bmm(delta, weights))
    at_target = delta.gather(-1, target[:, None, None].expand(-1, delta.shape[1], 1)).squeeze(-1)
    left = torch.bmm(delta, weights).squeeze(-1)  # what rounding left of the mean
    grown = delta.expm1()
    shift = torch.bmm(grown, weights).squeeze(-1).log1p()
    if not bool(torch.isfinite(shift).all()):  # e^delta overflows; then no digits are at stake
        exact = torch.logsumexp(p.log()[:, None] + delta, -1)
        shift = torch.where(torch.isfinite(shift), shift, exact)
    return shift - at_target, (shift - left).clamp_min(0.0), flip
