"""What a counterfactual did to the prediction of the next token, measured without cancellation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int

from moeaudit.models.precision import is_half

AT_ONCE = 1 << 18  # logits compared at once, so that on a CPU the passes stay in the cache


@dataclass(frozen=True)
class Outcomes:
    """Effects on the prediction of token t+1, one for each counterfactual; nats.

    `delta_nll` = NLL(ablated) - NLL(clean); `kl` = KL(clean || ablated); `flip` = top-1 changed;
    `top` = the edited top-1, a token id, where it is asked for.
    """

    delta_nll: Float[torch.Tensor, "positions rows"]
    kl: Float[torch.Tensor, "positions rows"]
    flip: Bool[torch.Tensor, "positions rows"]
    # Further outcomes by column name, each "positions rows".
    extra: dict[str, torch.Tensor] = field(default_factory=dict)
    top: Int[torch.Tensor, "positions rows"] | None = None

    @staticmethod
    def joined(parts: list[Outcomes], dim: int) -> Outcomes:
        """Several tables as one: more positions (dim 0) or more rows (dim 1)."""
        delta_nll, kl, flip = (
            torch.cat([getattr(x, name) for x in parts], dim)
            for name in ("delta_nll", "kl", "flip")
        )
        extra = {name: torch.cat([x.extra[name] for x in parts], dim) for name in parts[0].extra}
        tops = [x.top for x in parts if x.top is not None]
        return Outcomes(delta_nll, kl, flip, extra, torch.cat(tops, dim) if tops else None)

    def taken(self, places: Int[torch.Tensor, " places"]) -> Outcomes:
        """The positions at `places`, in that order."""
        extra = {name: column[places] for name, column in self.extra.items()}
        top = None if self.top is None else self.top[places]
        return Outcomes(self.delta_nll[places], self.kl[places], self.flip[places], extra, top)

    def reshaped(self, positions: int, rows: int) -> Outcomes:
        """The same numbers as a table of `rows` at each position."""
        shape = (positions, rows)
        extra = {name: column.reshape(shape) for name, column in self.extra.items()}
        delta_nll, kl = self.delta_nll.reshape(shape), self.kl.reshape(shape)
        top = None if self.top is None else self.top.reshape(shape)
        return Outcomes(delta_nll, kl, self.flip.reshape(shape), extra, top)


# (clean "positions vocab", edited "positions rows vocab", target "positions") -> "positions rows"
Measure = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def measure(
    clean: Float[torch.Tensor, "positions vocab"],
    edited: Float[torch.Tensor, "positions rows vocab"],
    target: Int[torch.Tensor, " positions"],
    extra: Mapping[str, Measure],
    at_once: int = AT_ONCE,
    careful: bool = True,
    tops: bool = False,
) -> Outcomes:
    """`compare`, and further outcomes of the same logits. `edited` may be used as scratch space."""
    columns = {name: outcome(clean, edited, target) for name, outcome in extra.items()}
    plain = compare(clean, edited, target, at_once, careful, tops)
    return Outcomes(plain.delta_nll, plain.kl, plain.flip, columns, plain.top)


def measure_steps(
    clean: Float[torch.Tensor, "positions steps vocab"],
    edited: Float[torch.Tensor, "positions rows steps vocab"],
    ids: Int[torch.Tensor, " tokens"],
    positions: Int[torch.Tensor, " positions"],
    extra: Mapping[str, Measure],
    horizon: bool,
    at_once: int = AT_ONCE,
    careful: bool = True,
    tops: bool = False,
) -> Outcomes:
    """Effects on the edited token's own prediction and, with a horizon, on those after it.

    The columns `spill_nll` and `spill_kl` (nats) are summed over the `tokens_after` following
    tokens that the text still has within the horizon; their flips are counted in `spill_flips`.
    """
    own = measure(clean[:, 0], edited[:, :, 0], ids[positions + 1], extra, at_once, careful, tops)
    if not horizon:
        return own
    spill = Spill(ids, positions, at_once, careful)
    for step in range(1, clean.shape[1]):
        spill.add(step, clean[:, step], edited[:, :, step])
    return spill.onto(own)


class Spill:
    """What an edit did to the predictions after its own token, added up step by step."""

    def __init__(
        self,
        ids: Int[torch.Tensor, " tokens"],
        positions: Int[torch.Tensor, " positions"],
        at_once: int = AT_ONCE,
        careful: bool = True,
    ) -> None:
        self.ids, self.positions, self.at_once, self.careful = ids, positions, at_once, careful
        self.count = torch.zeros_like(positions)
        self.nll: torch.Tensor | None = None
        self.kl: torch.Tensor | None = None
        self.flips: torch.Tensor | None = None

    def add(
        self,
        step: int,
        clean: Float[torch.Tensor, "positions vocab"],
        edited: Float[torch.Tensor, "positions rows vocab"],
    ) -> None:
        """The predictions `step` tokens after the edited one, as logits."""
        self.count_in(step, compare(clean, edited, self.target(step), self.at_once, self.careful))

    def target(self, step: int) -> Int[torch.Tensor, " positions"]:
        """What each of these predictions is of; the last token where the text has ended."""
        return self.ids[(self.positions + step + 1).clamp(max=len(self.ids) - 1)]

    def count_in(self, step: int, later: Outcomes) -> None:
        """What was measured `step` tokens after the edited one; past the text it counts nothing."""
        there = self.positions + step + 1 < len(self.ids)  # has a target
        if self.nll is None or self.kl is None or self.flips is None:
            self.nll, self.kl = torch.zeros_like(later.delta_nll), torch.zeros_like(later.kl)
            self.flips = torch.zeros_like(later.flip, dtype=torch.int32)
        self.count = self.count + there
        self.nll = self.nll + torch.where(there[:, None], later.delta_nll, 0.0)
        self.kl = self.kl + torch.where(there[:, None], later.kl, 0.0)
        self.flips = self.flips + (later.flip & there[:, None])

    def onto(self, own: Outcomes) -> Outcomes:
        """The outcomes of the own token with the columns of the later ones beside them."""
        none = torch.zeros_like(own.delta_nll)
        columns = {
            "spill_nll": none if self.nll is None else self.nll,
            "spill_kl": none if self.kl is None else self.kl,
            "spill_flips": none.to(torch.int32) if self.flips is None else self.flips,
            "tokens_after": self.count[:, None].expand_as(none).to(torch.int32),
        }
        return Outcomes(own.delta_nll, own.kl, own.flip, {**own.extra, **columns}, own.top)


def probabilities(logits: Float[torch.Tensor, "... vocab"]) -> Float[torch.Tensor, "... vocab"]:
    r"""The softmax, with a sum of 1 also over a large vocabulary.

    torch adds up its exponentials in few accumulators: over 49,152 words in float32 the sum is off by $10^{-5}$, and
    $\log \sum_v p_v e^{\delta_v}$ of a large edit by as much. `sum` adds in pairs.
    """
    p = torch.softmax(logits, -1)
    return p.div_(p.sum(-1, keepdim=True))


def drift(
    clean: Float[torch.Tensor, "positions vocab"],
    carried: Float[torch.Tensor, "positions vocab"],
    target: Int[torch.Tensor, " positions"],
    careful: bool = True,
) -> Float[torch.Tensor, " positions"]:
    """Difference in NLL between the clean forward and rows carried without an edit, nats."""
    clean = clean.float()
    p = torch.softmax(clean, -1)
    step, parts = max(1, AT_ONCE // clean.shape[-1]), []
    for a in range(0, len(clean), step):
        part = slice(a, a + step)
        delta = carried[part, None].float() - clean[part, None]
        shift, at_target, _ = _grown(clean[part], p[part], delta, target[part], careful)
        parts.append((shift - at_target)[:, 0].abs())
    return torch.cat(parts)


def compare(
    clean: Float[torch.Tensor, "positions vocab"],
    edited: Float[torch.Tensor, "positions rows vocab"],
    target: Int[torch.Tensor, " positions"],
    at_once: int = AT_ONCE,
    careful: bool = True,
    tops: bool = False,
) -> Outcomes:
    r"""Compare edited with clean logits. `edited` may be used as scratch space.

    With $\delta = z' - z$ and $p$ the clean distribution, $m = \log \sum_v p_v e^{\delta_v}$ is the
    change of the normaliser, so NLL changes by $m - \delta_y$ and $KL(p || p') = m - \sum_v p_v
    \delta_v$. Small effects keep their digits because no two large numbers are subtracted.

    `careful` looks whether a clean logit is -inf and whether $e^\delta$ overflowed, which asks the
    device twice a block. Without it such rows come out as NaN or infinite, and can be measured again.
    `tops` also keeps which token is the most probable after the edit.
    """
    positions, rows, vocab = edited.shape
    clean = clean.float()
    top = clean.argmax(-1)
    p = probabilities(clean)
    step = max(1, at_once // (rows * vocab))
    parts = []
    for a in range(0, positions, step):
        part = slice(a, a + step)
        some = (clean[part], p[part], edited[part], target[part], top[part])
        parts.append(_compare(*some, careful, tops))
    delta_nll, kl, flip = (torch.cat(column) for column in list(zip(*parts))[:3])
    return Outcomes(delta_nll, kl, flip, top=torch.cat([p[3] for p in parts]) if tops else None)


def _compare(
    clean: torch.Tensor,
    p: torch.Tensor,
    edited: torch.Tensor,
    target: torch.Tensor,
    top: torch.Tensor,
    careful: bool,
    tops: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    flip = _flips(edited, top)
    after = _tops(edited, top, flip) if tops else top
    before = clean[:, None]
    # (positions, rows, vocab). Half precision is widened as it is read, without a copy of its own.
    delta = edited - before if is_half(edited.dtype) else edited.float().sub_(before)
    shift, at_target, left = _grown(clean, p, delta, target, careful)
    return shift - at_target, (shift - left).clamp_min(0.0), flip, after


def _grown(
    clean: torch.Tensor,
    p: torch.Tensor,
    delta: torch.Tensor,  # (positions, rows, vocab), the change of logits; it is used up
    target: torch.Tensor,
    careful: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the normaliser grows by, the change at the target, and the mean change, less a constant each."""
    # A model may forbid a token with a logit of -inf.
    if careful and not bool(torch.isfinite(clean).all()):
        delta.masked_fill_((clean == -torch.inf)[:, None] & delta.isnan(), 0.0)
    # A constant shift of all logits changes nothing; without its mean, expm1 stays small.
    delta = delta.sub_(weighted(delta, p)[..., None])
    at_target = delta.gather(-1, target[:, None, None].expand(-1, delta.shape[1], 1)).squeeze(-1)
    left = weighted(delta, p)  # what rounding left of the mean
    grown = delta.expm1() if careful else delta.expm1_()
    shift = weighted(grown, p).log1p()
    # Where e^delta overflows, no digits are at stake.
    if careful and not bool(torch.isfinite(shift).all()):
        # p may be 0 in float32 where its logarithm is not.
        exact = torch.logsumexp(clean.log_softmax(-1)[:, None] + delta, -1)
        shift = torch.where(torch.isfinite(shift), shift, exact)
    return shift, at_target, left


def weighted(
    x: Float[torch.Tensor, "positions rows vocab"],
    p: Float[torch.Tensor, "positions vocab"],
    space: torch.Tensor | None = None,
) -> Float[torch.Tensor, "positions rows"]:
    """Sums of x over the vocabulary with weights p; products go into `space`, of the shape of x, if that is given.

    A CPU's batched product with one vector each adds up word by word, which over 49,152 words leaves four digits,
    and takes longer on some; one row alone is multiplied in fewer digits on a GPU that is told to. `sum` adds in pairs.
    """
    if x.device.type != "cpu" and x.shape[1] > 1:
        return torch.bmm(x, p[..., None]).squeeze(-1)
    at_once = max(1, AT_ONCE // max(1, len(x) * x.shape[2]))
    if space is None and x.shape[1] > at_once:  # no second table of a block that is large already
        return torch.cat([weighted(part, p) for part in x.split(at_once, 1)], 1)
    return torch.mul(x, p[:, None], out=space).sum(-1)


def _flips(edited: torch.Tensor, top: torch.Tensor) -> torch.Tensor:
    """Whether the first of each row's largest logits (as argmax has it) is another than `top`; `edited` stays.

    A CPU looks for an index over ten times slower than for a value. So the largest of the other logits is
    compared with the one at `top`, and only where they are equal somewhere does the index decide.
    """
    if edited.device.type == "cpu":
        at = top[:, None, None].expand(-1, edited.shape[1], 1)
        own = edited.gather(-1, at)
        others = edited.scatter_(-1, at, -torch.inf).amax(-1, keepdim=True)
        edited.scatter_(-1, at, own)
        if bool((own != others).all()):
            return (others > own).squeeze(-1)
    # `max` rather than `argmax`, which takes a CPU twice the time.
    return edited.max(-1).indices != top[:, None]


def _tops(edited: torch.Tensor, top: torch.Tensor, flip: torch.Tensor) -> torch.Tensor:
    """The first of each row's largest logits: looked for only where it is another than `top`."""
    if edited.device.type != "cpu":
        return edited.max(-1).indices
    after = top[:, None].expand(-1, edited.shape[1]).clone()
    after[flip] = edited[flip].max(-1).indices
    return after
