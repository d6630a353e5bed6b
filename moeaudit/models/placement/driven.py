"""Decoder layers called one by one for several texts, so that each layer's weights are brought once for all.

A model drives its layers for one text at a time; of a model whose layers come and go that is one pass over its
weights a text. Where nothing but the layers stands between the first hidden state and the last, layer i can be
called for every text, then layer i + 1. Whether that is so is measured: the first text is run both ways, and
every logit must be the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int

from ..anatomy import Kept
from .aside import last_logits, layer_arguments
from .stream import stream_of

if TYPE_CHECKING:
    from ..model import Model

Path = tuple[Any, ...]
Given = tuple[tuple[Any, ...], dict[str, Any]]
# (decoder layer, text, the call of that layer for that text): whoever is given it makes the call, once.
Through = Callable[[int, int, Callable[[], None]], None]

_DRIVEN: Kept[bool] = Kept()


def hidden_path(args: tuple, kwargs: dict) -> Path | None:
    """Where the hidden state is among a decoder layer's arguments; None where there is none."""
    if args and isinstance(args[0], torch.Tensor):
        return (0, 0)
    if isinstance(kwargs.get("hidden_states"), torch.Tensor):
        return (1, "hidden_states")
    return None


def with_hidden(given: Given, hidden: torch.Tensor) -> Given:
    """A decoder layer's arguments with another hidden state."""
    path = hidden_path(*given)
    assert path is not None, "a decoder layer is called without a hidden state"
    args, kwargs = list(given[0]), dict(given[1])
    (args, kwargs)[path[0]][path[1]] = hidden
    return tuple(args), kwargs


@torch.no_grad()
def driven(
    model: Model, texts: Sequence[torch.Tensor], through: Through
) -> Iterator[Float[torch.Tensor, "tokens vocab"]]:
    """Logits of each text (`"1 tokens"` each) in turn, after `through` was given every call, layer by layer.

    Only for a model that `can_be_driven`.
    """
    given = [layer_arguments(model, ids) for ids in texts]
    hidden: list[torch.Tensor] = []
    for each in given:
        path = hidden_path(*each[0])
        assert path is not None
        hidden.append(each[0][path[0]][path[1]])
    tails: list[tuple[Any, ...] | None] = [None] * len(texts)
    for i, layer in enumerate(model.anatomy.decoder_layers):
        for t in range(len(texts)):

            def call(i: int = i, t: int = t, layer: Any = layer) -> None:
                args, kwargs = with_hidden(given[t][i], hidden[t])
                output = layer(*args, **kwargs)
                whole = isinstance(output, tuple)
                hidden[t], tails[t] = (output[0], output[1:]) if whole else (output, None)

            through(i, t, call)
    for t, ids in enumerate(texts):
        yield last_logits(model, hidden[t], ids, tails[t])[0]


def can_be_driven(model: Model, ids: Int[torch.Tensor, "1 tokens"]) -> bool:
    """Whether it is worth it (layers are streamed) and gives the model's own logits, measured once a model."""
    if stream_of(model.hf) is None:
        return False
    known = _DRIVEN.of(model.hf)
    if known is None:
        known = _same(model, ids)
        _DRIVEN.keep(model.hf, known)
    return known


@torch.no_grad()
def _same(model: Model, ids: torch.Tensor) -> bool:
    given = layer_arguments(model, ids)
    layers = model.anatomy.decoder_layers
    if len(given) != len(layers) or any(hidden_path(*each) is None for each in given):
        return False
    own = model.hf(input_ids=ids, use_cache=False).logits[0]
    called = 0

    def plainly(_i: int, _t: int, call: Callable[[], None]) -> None:
        nonlocal called
        called += 1
        call()

    (found,) = driven(model, [ids], plainly)
    return called == len(layers) and torch.equal(found, own)
