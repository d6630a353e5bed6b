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

    def reshaped(self, positions: int, rows: int) -> Outcomes:
        """The same numbers as a table of `rows` at each position."""
        shape = (positions, rows)
        extra = {name: column.reshape(shape) for name, column in self.extra.items()}
        delta_nll, kl = self.delta_nll.reshape(shape), self.kl.reshape(shape)
        return Outcomes(delta_nll, kl, self.flip.reshape(shape), extra)


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


def measure_steps(
    clean: Float[torch.Tensor, "positions steps vocab"],
    edited: Float[torch.Tensor, "positions rows steps vocab"],
    ids: Int[torch.Tensor, " tokens"],
    positions: Int[torch.Tensor, " positions"],
    extra: Mapping[str, Measure],
    horizon: bool,
) -> Outcomes:
    """Effects on the edited token's own prediction and, with a horizon, on those after it.

    The columns `spill_nll` and `spill_kl` (nats) are summed over the `tokens_after` following
    tokens that the text still has within the horizon; their flips are counted in `spill_flips`.
    """
    steps = clean.shape[1]
    own = measure(clean[:, 0], edited[:, :, 0], ids[positions + 1], extra)
    if not horizon:
        return own
    count = torch.zeros_like(positions)
    nll, kl = torch.zeros_like(own.delta_nll), torch.zeros_like(own.kl)
    flips = torch.zeros_like(own.flip, dtype=torch.int32)
    for step in range(1, steps):
        there = positions + step + 1 < len(ids)  # has a target
        target = ids[(positions + step + 1).clamp(max=len(ids) - 1)]
        later = compare(clean[:, step], edited[:, :, step], target)
        count += there
        nll += torch.where(there[:, None], later.delta_nll, 0.0)
        kl += torch.where(there[:, None], later.kl, 0.0)
        flips += later.flip & there[:, None]
    after = count[:, None].expand_as(nll).to(torch.int32)
    columns = {"spill_nll": nll, "spill_kl": kl, "spill_flips": flips, "tokens_after": after}
    return Outcomes(own.delta_nll, own.kl, own.flip, {**own.extra, **columns})


def drift(
    clean: Float[torch.Tensor, "positions vocab"],
    carried: Float[torch.Tensor, "positions vocab"],
    target: Int[torch.Tensor, " positions"],
) -> float:
    """Largest difference in NLL between the clean forward and rows carried without an edit, nats."""
    effect = compare(clean, carried[:, None].clone(), target)
    return float(effect.delta_nll.abs().max())


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
