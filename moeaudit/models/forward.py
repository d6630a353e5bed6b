"""The one hook on the experts call: what a layer's experts are given, and another answer in its place.

`listening` reads `experts(hidden, index, weight)`, `answering` replaces the router's answer in it and
may add to what comes out. Both are for the length of a `with` and leave nothing behind, also when
something inside fails. Nothing else in the package changes or reads what an experts module is given
(the engines of `causal/check` do, on purpose: they are the second way).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int

from moeaudit.errors import ContractError

from .anatomy import Kept
from .model import LENT_EXPERTS
from .placement.spread import at_home
from .precision import memory_named

if TYPE_CHECKING:
    from torch import nn

    from .anatomy import MoELayer
    from .model import Model

# (hidden, index, weight) -> (index, weight), or None to leave the router's answer as it is.
Answer = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor], "tuple[torch.Tensor, torch.Tensor] | None"
]
# routed output "tokens d_model" -> what is added to it, of the same shape, or None for nothing.
Addition = Callable[[torch.Tensor], "torch.Tensor | None"]


# Passes over one model in several threads take turns: they read and edit it through hooks, and would
# hear each other.
_TURNS: Kept[threading.RLock] = Kept()
_MAKING = threading.Lock()


@dataclass
class ExpertsSeen:
    """The arguments of one experts call."""

    hidden: Float[torch.Tensor, "tokens d_model"]
    index: Int[torch.Tensor, "tokens top_k"]
    weight: Float[torch.Tensor, "tokens top_k"]


@contextmanager
def listening(
    layers: Iterable[MoELayer],
    heard: Callable[[MoELayer, ExpertsSeen], None] | None = None,
    *,
    prepend: bool = False,
    as_given: bool = False,
) -> Iterator[dict[int, ExpertsSeen]]:
    """Inside, what the experts of `layers` are given is kept in the dict, by decoder layer index.

    The dict holds a layer's latest call. With `heard`, each call is handed to `heard(layer, seen)`
    instead and the dict stays empty. Hooks that were there before are heard first, so that what is
    seen is what the experts get; `prepend` listens before them, to the router itself. Of layers spread over
    devices it is brought to the model's own, or left where the layer computes, `as_given`.
    """
    kept: dict[int, ExpertsSeen] = {}

    def on(layer: MoELayer):
        def hook(module: Any, args: tuple, kwargs: dict) -> None:  # noqa: ARG001
            given = _given(layer, args, kwargs)
            seen = ExpertsSeen(*(given if as_given else at_home(layer.experts, *given)))
            if heard is None:
                kept[layer.index] = seen
            else:
                heard(layer, seen)

        return hook

    with ExitStack() as stack:
        for layer in layers:
            handle = layer.experts.register_forward_pre_hook(
                on(layer), prepend=prepend, with_kwargs=True
            )
            stack.callback(handle.remove)
        yield kept


@contextmanager
def answering(layer: MoELayer, answer: Answer, add: Addition | None = None) -> Iterator[None]:
    """Inside, each call of the layer's experts gets `answer(hidden, index, weight)`.

    `answer` returns another `(index, weight)`, `"tokens slots"` each with as many slots as it
    likes, or None to leave this call alone; they are cast to the kinds of number the router gave.
    `add`, called after it with the routed output `"tokens d_model"`, returns what to add to that.
    """

    def replace(module: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:  # noqa: ARG001
        hidden, index, weight = _given(layer, args, kwargs)
        other = answer(*at_home(layer.experts, hidden, index, weight))
        if other is None:
            return None
        values = [*args, *kwargs.values()]
        # To the device that computes as well, where layers are spread over several.
        values[1:3] = other[0].to(index), other[1].to(weight)
        return tuple(values[: len(args)]), dict(zip(kwargs, values[len(args) :]))

    def enlarge(module: Any, args: tuple, output: torch.Tensor) -> torch.Tensor | None:  # noqa: ARG001
        (flat,) = at_home(layer.experts, output.reshape(-1, output.shape[-1]))
        more = None if add is None else add(flat)
        return None if more is None else output + more.reshape(output.shape).to(output)

    with ExitStack() as stack:
        handle = layer.experts.register_forward_pre_hook(replace, with_kwargs=True)
        stack.callback(handle.remove)
        if add is not None:
            stack.callback(layer.experts.register_forward_hook(enlarge).remove)
        yield


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, and this thread's turn with the model.

    No dropout and no router jitter; modules that were training are training again after, and the
    experts function that `load` was asked for is set for as long, and nothing is collected that the model's
    configuration asks for besides logits. The turn
    is the model's own lock and re-entrant; whoever needs the turn of all walks as well takes that
    one inside, never the other way round. Running out of memory inside is raised as OutOfMemory.
    """
    with _MAKING:
        turn = _TURNS.setdefault(model, threading.RLock)
    named = memory_named(f"running {type(model).__name__}")
    with turn, named, _lent_experts(model), _logits_alone(model):
        training = [module for module in model.modules() if module.training]
        for module in training:
            module.training = False
        try:
            yield
        finally:
            for module in training:
                module.training = True


def lend_experts(model: nn.Module, implementation: str | None) -> None:
    """Have every pass over `model` run this experts function and put its own back; None for its own."""
    if implementation is None:
        LENT_EXPERTS.forget(model)
    else:
        LENT_EXPERTS.keep(model, implementation)


# What a configuration may ask for besides logits. Collecting it costs time, and a loss of router logits cannot
# be computed where layers stand aside.
_ASKED = {
    "output_router_logits": False,
    "output_hidden_states": False,
    "_output_attentions": False,
    "return_dict": True,
}


@contextmanager
def _logits_alone(model: nn.Module) -> Iterator[None]:
    """Inside, a forward returns logits by name and nothing that the configuration asks for besides."""
    configs = {id(c): c for m in model.modules() if (c := getattr(m, "config", None)) is not None}
    before = [
        (config, name, vars(config)[name])
        for config in configs.values()
        for name in _ASKED
        if name in getattr(config, "__dict__", {})
    ]
    try:
        for config, name, _ in before:
            config.__dict__[name] = _ASKED[name]
        yield
    finally:
        for config, name, value in before:
            config.__dict__[name] = value


def _lent_experts(model: nn.Module) -> AbstractContextManager[None]:
    wanted = LENT_EXPERTS.of(model)
    return nullcontext() if wanted is None else experts_as(model, wanted)


@contextmanager
def experts_as(model: nn.Module, implementation: str) -> Iterator[None]:
    """Inside, experts are computed by another of transformers' implementations; put back after."""
    if model.config._experts_implementation == implementation:  # type: ignore[union-attr]  # noqa: SLF001
        yield
        return
    kept = "_experts_implementation_internal"
    configs = {id(c): c for m in model.modules() if hasattr(c := getattr(m, "config", None), kept)}
    before = {key: getattr(config, kept) for key, config in configs.items()}
    try:
        model.set_experts_implementation(implementation)  # type: ignore[operator]
        yield
    finally:
        for key, config in configs.items():
            setattr(config, kept, before[key])


@torch.no_grad()
def clean_pass(
    model: Model, layers: Iterable[MoELayer], ids: Int[torch.Tensor, "1 tokens"]
) -> tuple[Float[torch.Tensor, "tokens vocab"], dict[int, ExpertsSeen]]:
    """Logits of one document, and the experts' arguments by decoder layer index."""
    with evaluating(model.hf), listening(layers) as seen:
        logits = model.hf(input_ids=ids, use_cache=False).logits[0]
    return logits, seen


def _given(
    layer: MoELayer, args: tuple, kwargs: dict
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`(hidden, index, weight)` of one call, given by position or by keyword, in this order."""
    given = [*args, *kwargs.values()][:3]
    if len(given) != 3:
        raise ContractError(
            f"{layer.name}: {type(layer.experts).__name__} at '{layer.experts_path}' was called with "
            f"{len(given)} arguments; experts(hidden, top_k_index, top_k_weights) was expected, as it was "
            "when the model was loaded. Load the model again if it was changed since."
        )
    hidden, index, weight = given
    return hidden, index, weight
