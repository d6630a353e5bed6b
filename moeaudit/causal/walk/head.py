"""From the last decoder layer's output to logits, by the model's own code, and to outcomes.

The model's forward is run with its decoder layers standing aside and the rows put in the place of
the last one's output. Final norms, heads, scalings and soft caps then need not be known.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int

from moeaudit.models import Model

from ..outcomes.compare import Outcomes, Spill, drift, measure, measure_steps

if TYPE_CHECKING:
    from .plan import WalkPlan

_TOKENS = 8  # rows stand as short documents, so no position is ever out of range


@torch.no_grad()
def tail_logits(
    model: Model,
    hidden: Float[torch.Tensor, "rows ..."],
    filler_id: torch.Tensor,
    tuple_tail: tuple[Any, ...] | None,
) -> Float[torch.Tensor, "rows vocab"]:
    """Logits of rows that have passed the last decoder layer.

    `filler_id` is any valid token id (its embedding is thrown away); `tuple_tail` is what the
    decoder layers return after the hidden state, None for layers that return it alone.
    """
    count = len(hidden)
    documents = -(-count // _TOKENS)
    padded = hidden.new_zeros(documents * _TOKENS, *hidden.shape[1:])
    padded[:count] = hidden
    rows = padded.view(documents, _TOKENS, *hidden.shape[1:])
    logits = last_logits(model, rows, filler_id.expand(documents, _TOKENS), tuple_tail)
    return logits.reshape(documents * _TOKENS, -1)[:count]


@torch.no_grad()
def last_logits(
    model: Model,
    hidden: Float[torch.Tensor, "documents tokens ..."],
    ids: Int[torch.Tensor, "documents tokens"],
    tuple_tail: tuple[Any, ...] | None,
) -> Float[torch.Tensor, "documents tokens vocab"]:
    """Logits of documents whose tokens have passed the last decoder layer, as `tail_logits`."""
    layers = model.anatomy.decoder_layers

    def returned(value: torch.Tensor) -> Any:
        return value if tuple_tail is None else (value, *tuple_tail)

    def stand_aside(*args: Any, **kwargs: Any) -> Any:
        return returned(args[0] if args else kwargs["hidden_states"])

    with ExitStack() as stack:
        for layer in layers:
            _replace_forward(stack, layer, stand_aside)
        _replace_forward(stack, layers[-1], lambda *_, **__: returned(hidden))
        return model.hf(input_ids=ids, use_cache=False).logits


@torch.no_grad()
def layer_arguments(
    model: Model, ids: Int[torch.Tensor, "1 tokens"]
) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """What the model's own forward calls each decoder layer with when all of them stand aside.

    The hidden state among the arguments is the first layer's, for all of them.
    """
    given: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    layers = model.anatomy.decoder_layers

    def note(*args: Any, **kwargs: Any) -> Any:
        given.append((args, kwargs))
        if len(given) == len(layers):
            raise _AllSeen
        return args[0] if args else kwargs["hidden_states"]

    with ExitStack() as stack:
        for layer in layers:
            _replace_forward(stack, layer, note)
        with suppress(_AllSeen):
            model.hf(input_ids=ids, use_cache=False)
    return given


class _AllSeen(Exception):
    """Every layer's arguments are known; what comes after the layers need not run."""


def _replace_forward(stack: ExitStack, module: torch.nn.Module, forward: Any) -> None:
    """Another forward, without the module's hooks: what they do (bring weights, say) is the layer's."""
    had = module.__dict__.get("forward")  # set by offloading hooks, absent otherwise
    for hooks in ("_forward_hooks", "_forward_pre_hooks"):
        stack.callback(setattr, module, hooks, getattr(module, hooks))
        setattr(module, hooks, OrderedDict())

    def restore() -> None:
        if had is None:
            module.__dict__.pop("forward", None)
        else:
            module.__dict__["forward"] = had

    module.__dict__["forward"] = forward
    stack.callback(restore)


def row_outcomes(
    plan: WalkPlan,
    clean: Float[torch.Tensor, "tokens vocab"],
    rows: Float[torch.Tensor, "positions all steps ..."],
    empty: Bool[torch.Tensor, "positions rows"],
    ids: Int[torch.Tensor, "1 tokens"],
    positions: Int[torch.Tensor, " positions"],
    tuple_tail: tuple[Any, ...] | None,
) -> tuple[Outcomes, Float[torch.Tensor, " positions"]]:
    """Effects of each row against row 0 of its position, and the drift of row 0 at each (nats).

    The logits of all rows never stand together: some positions at a time, some rows of one
    position where not even one fits, some tokens of one row where not even one does. Whether a
    logit is -inf, a row empty, an effect too large for its fast formula is asked of the device once.
    """
    asked = torch.stack([~torch.isfinite(clean).all(), empty.any()]).tolist()
    given = (plan, clean, rows, empty if asked[1] else None, ids, positions, tuple_tail)
    found, moved = _measured(*given, careful=asked[0])
    if not asked[0]:
        drifted = moved.sum()
        sums = torch.stack([found.delta_nll.sum(), found.kl.sum(), *_spilled(found), drifted])
        if not bool(torch.isfinite(sums).all()):
            found, moved = _measured(*given, careful=True)
    return found, moved


def _spilled(found: Outcomes) -> list[torch.Tensor]:
    return [found.extra[name].sum() for name in ("spill_nll", "spill_kl") if name in found.extra]


def _measured(
    plan: WalkPlan,
    clean: torch.Tensor,
    rows: torch.Tensor,
    empty: torch.Tensor | None,  # None where no row is
    ids: torch.Tensor,
    positions: torch.Tensor,
    tuple_tail: tuple[Any, ...] | None,
    *,
    careful: bool,
) -> tuple[Outcomes, torch.Tensor]:
    (n, steps), vocab = rows.shape[1:3], clean.shape[-1]

    def logits(block: torch.Tensor) -> torch.Tensor:
        """Logits of a block of rows, in its own shape."""
        shape, flat = block.shape[:3], block.flatten(0, 2)
        return tail_logits(plan.model, flat, ids[0, 0], tuple_tail).view(*shape, vocab)

    most, parts, moved = plan.budget.logits // vocab, [], []
    if n * steps <= most or n * steps == 1:
        step = max(1, most // (n * steps))
        for a in range(0, len(positions), step):
            part = slice(a, a + step)
            block, at = logits(rows[part]), positions[part]
            alone, edited = block[:, 0], block[:, 1:]
            moved.append(drift(clean[at], alone[:, 0], ids[0, at + 1], careful))
            edited = _emptied(alone, edited, None if empty is None else empty[part])
            parts.append(measure_steps(alone, edited, ids[0], at, *plan.measured, careful))
        return Outcomes.joined(parts, 0), torch.cat(moved)
    for p in range(len(positions)):
        here = slice(p, p + 1)
        nothing = None if empty is None else empty[here]
        given = (plan, clean, rows[here], nothing, ids, positions[here], logits)
        found, away = _position(*given, careful=careful)
        parts.append(found)
        moved.append(away)
    return Outcomes.joined(parts, 0), torch.cat(moved)


def _position(
    plan: WalkPlan,
    clean: torch.Tensor,
    rows: torch.Tensor,  # (1, all, steps, ...)
    empty: torch.Tensor | None,  # (1, rows)
    ids: torch.Tensor,
    at: torch.Tensor,  # (1,)
    logits: Callable[[torch.Tensor], torch.Tensor],
    *,
    careful: bool,
) -> tuple[Outcomes, torch.Tensor]:
    """Outcomes at one position whose rows do not fit together, cut by rows, then by steps; its drift, (1,)."""
    extra, horizon, at_once = plan.measured
    most, steps = max(1, plan.budget.logits // clean.shape[-1]), rows.shape[2]
    width = max(1, min(rows.shape[1] - 1, most // min(steps, most)))  # rows at a time
    stretch = max(1, most // width)  # steps at a time
    parts, moved = [], []
    for a in range(1, rows.shape[1], width):
        some = rows[:, a : a + width]
        nothing = None if empty is None else empty[:, a - 1 : a - 1 + width]
        own: Outcomes | None = None
        spill = Spill(ids[0], at, at_once, careful)
        for s in range(0, steps, stretch):
            alone = logits(rows[:, :1, s : s + stretch])[:, 0]  # (1, stretch, vocab)
            edited = _emptied(alone, logits(some[:, :, s : s + stretch]), nothing)
            if s == 0:
                target = ids[0, at + 1]
                moved.append(drift(clean[at], alone[:, 0], target, careful))
                own = measure(alone[:, 0], edited[:, :, 0], target, extra, at_once, careful)
            for k in range(int(s == 0), alone.shape[1]):
                spill.add(s + k, alone[:, k], edited[:, :, k])
        assert own is not None
        parts.append(spill.onto(own) if horizon else own)
    return Outcomes.joined(parts, 1), torch.stack(moved).amax(0)


def _emptied(
    alone: torch.Tensor,  # (positions, steps, vocab)
    edited: torch.Tensor,  # (positions, rows, steps, vocab)
    empty: torch.Tensor | None,  # (positions, rows); None where none is
) -> torch.Tensor:
    """An edit of nothing is the pass-through row itself."""
    if empty is None:
        return edited
    return torch.where(empty[..., None, None], alone[:, None], edited)
