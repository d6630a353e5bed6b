"""A linear head and what an edit does to its predictions, in blocks of the vocabulary.

Logits `W h + b` change by `W (h' - h)`: the difference is taken of hidden states, not of two large
logits, and each block of it is measured while a CPU has it in its cache. No table of rows by
vocabulary is made, whatever is asked of the rows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import nn

from moeaudit.models.precision import full, is_half

from .compare import probabilities, weighted

# Rows of a block on a CPU, so that it is neither too narrow nor too wide for products.
ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class LinearHead:
    """A head whose logits are `weight @ hidden + bias` and nothing besides; read at each use."""

    module: nn.Linear

    @property
    def weight(self) -> Float[torch.Tensor, "vocab d_model"]:
        return self.module.weight

    @property
    def vocab(self) -> int:
        return self.weight.shape[0]

    def words(self, ids: Int[torch.Tensor, " places"]) -> Float[torch.Tensor, "places d_model"]:
        """The rows of some tokens, at least float32."""
        return full(self.weight[ids])

    def logits(
        self, hidden: Float[torch.Tensor, "places d_model"], at_once: int
    ) -> Float[torch.Tensor, "places vocab"]:
        """In at least float32, also where the weights are half: these are widened `at_once` numbers at a time."""
        (places, width), weight, bias = hidden.shape, self.weight, self.module.bias
        step = max(1, at_once // width) if is_half(weight.dtype) else self.vocab
        if step >= self.vocab:
            out = _product(hidden, _ready(weight))
        else:
            out = full(hidden[:0]).new_empty(places, self.vocab)
            for a in range(0, self.vocab, step):
                part = slice(a, a + step)
                out[:, part] = _product(hidden, _ready(weight[part]))
        return out if bias is None else out.add_(full(bias))


def _ready(weight: torch.Tensor) -> torch.Tensor:
    """A block of the head as products take it: a GPU multiplies half precision into float32 by itself."""
    return weight if weight.is_cuda else full(weight)


def _product(
    rows: Float[torch.Tensor, "rows d_model"],
    block: Float[torch.Tensor, "words d_model"],
    space: torch.Tensor | None = None,
) -> Float[torch.Tensor, "rows words"]:
    """`rows @ block.T` in at least float32, in `space` if that is given."""
    if is_half(block.dtype):
        return torch.mm(rows.to(block.dtype), block.t(), out_dtype=torch.float32)
    out = None if space is None else space[: len(rows) * len(block)].view(len(rows), len(block))
    return torch.mm(rows.to(block.dtype), block.t(), out=out)


@dataclass
class Clean:
    """Predictions that nothing was edited for, one at each place."""

    head: LinearHead
    hidden: Float[torch.Tensor, "places d_model"]
    target: Int[torch.Tensor, " places"]
    top: Int[torch.Tensor, " places"]
    # Logits less the largest; on a CPU the largest itself is -inf there, so that the others are looked at.
    below: Float[torch.Tensor, "places vocab"]
    p: Float[torch.Tensor, "places vocab"]
    size: Float[torch.Tensor, " places"]  # of the largest logit

    @classmethod
    def of(
        cls,
        head: LinearHead,
        hidden: Float[torch.Tensor, "places d_model"],
        logits: Float[torch.Tensor, "places vocab"],
        target: Int[torch.Tensor, " places"],
    ) -> Clean:
        """`logits` are those of `hidden`, and are used up."""
        p = probabilities(logits)
        most, top = logits.max(-1)
        below = logits.sub_(most[:, None])
        if below.device.type == "cpu":
            below.scatter_(-1, top[:, None], -torch.inf)
        return cls(head, hidden, target, top, below, p, most.abs())

    def p_at(self, ids: Int[torch.Tensor, " places"]) -> Float[torch.Tensor, "places 1"]:
        return self.p.gather(-1, ids[:, None])

    @property
    def p_top(self) -> Float[torch.Tensor, "places 1"]:
        return self.p_at(self.top)


def information(p: torch.Tensor) -> torch.Tensor:
    """p log p, 0 for a token that is forbidden."""
    return torch.where(p > 0, p * p.log(), 0.0)


_WEIGHTS = {"square": torch.square, "information": information}  # besides p itself


@dataclass
class Sums:
    r"""What an edit did to each row, summed over the vocabulary; all `"places rows"`.

    With $x_v = \delta_v - \delta_{top}$, where $\delta$ is the change of the logits and *top* the token held most
    likely before. A constant shift of all logits changes nothing, and the likeliest token's own removes most of it.
    """

    clean: Clean
    change: Float[torch.Tensor, "places rows d_model"]
    at_target: torch.Tensor  # x_y
    left: torch.Tensor  # sum of p x
    grown: torch.Tensor  # sum of p (e^x - 1)
    above: torch.Tensor  # largest of x_v + z_v - z_top, on a CPU of the other tokens
    flip: Bool[torch.Tensor, "places rows"]
    # Asked for by name: sums of p^2 E, p log p E, p^2 E^2 and p x E, with E = e^x - 1.
    more: dict[str, torch.Tensor]
    top: Int[torch.Tensor, "places rows"] | None = None  # the edited top-1, where it is asked for


@torch.no_grad()
def summed(
    clean: Clean,
    change: Float[torch.Tensor, "places rows d_model"],
    at_once: int,
    widened: int,
    more: Collection[str] = (),
    tops: bool = False,
) -> Sums:
    """Sums over the vocabulary of rows whose hidden state is changed by `change`.

    At most `at_once` changes of logits stand at once, and `widened` numbers of a half-precision head. `tops` also
    keeps which token is the most probable after the edit.
    """
    head, (places, rows, width) = clean.head, change.shape
    pair = torch.stack([head.words(clean.top), head.words(clean.target)], -1)  # (places, width, 2)
    if change.is_cuda and is_half(head.weight.dtype):
        change = change.to(head.weight.dtype).float()  # as products will have it
    shift, at_target = torch.bmm(change.to(pair.dtype), pair).unbind(-1)
    found = Sums(
        clean,
        change,
        at_target - shift,
        left=torch.zeros_like(shift),
        grown=torch.zeros_like(shift),
        above=torch.full_like(shift, -torch.inf),
        flip=torch.zeros_like(shift, dtype=torch.bool),
        more={name: torch.zeros_like(shift) for name in more},
    )
    first = torch.zeros_like(shift, dtype=torch.long)  # where the largest logit is, off a CPU
    on_cpu = change.device.type == "cpu"
    group = max(1, min(places, (ROWS_AT_ONCE if on_cpu else at_once) // rows))
    step = max(1, min(head.vocab, at_once // (group * rows)))
    if is_half(head.weight.dtype):
        step = max(1, min(step, widened // width))
    space = _Space(group * rows * step, shift)
    for a in range(0, head.vocab, step):
        words = slice(a, min(a + step, head.vocab))
        block = _ready(head.weight[words])
        for b in range(0, places, group):
            part = slice(b, b + group)
            x = _product(change[part].flatten(0, 1), block, space.block).view(
                -1, rows, words.stop - a
            )
            x.sub_(shift[part, :, None])
            _largest(found, first, x, part, words, space)
            _add(found, x, part, words, space)
    if on_cpu:
        found.flip, top = _flipped(found, shift, widened, tops)
    else:
        found.flip, top = first != clean.top[:, None], first
    found.top = top if tops else None
    return found


def _largest(
    found: Sums,
    first: torch.Tensor,
    x: torch.Tensor,
    part: slice,
    words: slice,
    space: _Space,
) -> None:
    """Whether the largest logit of each row is in this block; a CPU looks for an index ten times slower."""
    above = found.above[part]
    logits = torch.add(x, found.clean.below[part, None, words], out=space.like(x))
    if space.on_cpu:
        torch.maximum(above, logits.amax(-1), out=above)
        return
    most, at = logits.max(-1)
    more = most > above  # of equal ones the first stays
    first[part] = torch.where(more, at + words.start, first[part])
    found.above[part] = torch.where(more, most, above)


def _add(found: Sums, x: torch.Tensor, part: slice, words: slice, space: _Space) -> None:
    """This block's share of each sum; `x` is used up."""
    more, p = found.more, found.clean.p[part, words]
    beside = space.like(x) if space.on_cpu else None
    found.left[part] += weighted(x, p, beside)
    grown = x.expm1() if "crossed" in more else x.expm1_()
    found.grown[part] += weighted(grown, p, beside)
    for name in (name for name in _WEIGHTS if name in more):
        more[name][part] += weighted(grown, _WEIGHTS[name](p), beside)
    if "crossed" in more:
        more["crossed"][part] += weighted(x.mul_(grown), p, beside)
    if "squared" in more:
        more["squared"][part] += weighted(grown.mul_(grown), p * p, beside)


class _Space:
    """Room for one block and a copy of it, made once."""

    def __init__(self, numbers: int, like: torch.Tensor) -> None:
        self.on_cpu = like.device.type == "cpu"
        self.block, self.beside = (like.new_empty(numbers) for _ in range(2))

    def like(self, x: torch.Tensor) -> torch.Tensor:
        return self.beside[: x.numel()].view(x.shape)


def _flipped(
    found: Sums, shift: torch.Tensor, at_once: int, tops: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether the first of a row's largest logits is another than before, and, with `tops`, which it is.

    `above` decides where rounding cannot turn it; the few rows besides get all their logits, and the
    index of the first largest one, as argmax has it. So do rows that flip, if the token is asked for.
    """
    clean, flip = found.clean, found.above > 0
    top = clean.top[:, None].expand_as(flip).clone()
    size = 1 + clean.size[:, None] + shift.abs()
    near = found.above.abs() <= 64 * torch.finfo(shift.dtype).eps * size
    place, row = (near | flip if tops else near).nonzero(as_tuple=True)
    step = max(1, at_once // clean.head.vocab)
    for a in range(0, len(place), step):
        p, r = place[a : a + step], row[a : a + step]
        logits = clean.head.logits(full(clean.hidden[p]) + found.change[p, r], at_once)
        top[p, r] = logits.max(-1).indices
        flip[p, r] = top[p, r] != clean.top[p]
    return flip, top
