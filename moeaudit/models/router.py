"""The model's own router, run again with some experts banned.

Which expert enters when another is gone, and what the weights become, is a rule that differs from
model to model: group limits, a bias for the choice only, normalisation over the chosen, a scaling.
None of it is written down here. The MoE block itself is run, and whenever its router ranks experts
(top-k, maximum, sort over as many numbers as there are experts) the banned ones stand at minus
infinity. What the router then hands to its experts is read off.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch.overrides import TorchFunctionMode

from moeaudit.errors import ContractError, InputError

from . import Model, MoELayer
from .forward import ExpertsSeen, listening
from .precision import not_memory, rounding

Scores = Literal["kept", "remaining"]

_RANKING = {"topk", "max", "amax", "sort", "argsort", "argmax", "kthvalue"}
_SOFTMAX = {"softmax", "log_softmax", "logsumexp", "_softmax"}


class _Ban(TorchFunctionMode):
    """While active, banned experts are at minus infinity wherever experts are ranked.

    With `scores="remaining"` also wherever scores of all experts are normalised.
    """

    def __init__(self, banned: torch.Tensor, scores: Scores) -> None:
        super().__init__()
        self.banned = banned  # (tokens, experts)
        self.functions = _RANKING | (_SOFTMAX if scores == "remaining" else set())
        self.rankings = 0
        # Who stood above minus infinity in a ranking of all experts at once, (tokens, experts);
        # a router may rank several times, leaving out whom it chose before.
        self.choosable = torch.zeros_like(banned)

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in self.functions and args and self._over_experts(args[0]):
            # Where layers are spread over devices, the ban may stand on another than the scores.
            banned = self.banned.reshape(args[0].shape).to(args[0].device)
            masked = args[0].masked_fill(banned, -torch.inf)
            if name in _RANKING:
                self.rankings += 1
                if masked.shape[-1] == self.banned.shape[1]:
                    ranked = (masked > -torch.inf).view_as(self.banned).to(self.banned.device)
                    self.choosable = self.choosable | ranked
            args = (masked, *args[1:])
        return func(*args, **kwargs)

    def _over_experts(self, x: Any) -> bool:
        """One number for each token and expert, perhaps as (tokens, groups, experts a group)."""
        if not isinstance(x, torch.Tensor) or not x.is_floating_point() or x.dim() < 2:
            return False
        experts = self.banned.shape[1]
        in_order = x.shape[-1] == experts or (
            x.dim() > 2 and x.shape[-1] * x.shape[-2] == experts and x.shape[0] == len(self.banned)
        )
        return x.numel() == self.banned.numel() and in_order


class _Answered(Exception):
    """The router has answered; the block need not go on."""


def _require_answer(layer: MoELayer, ban: _Ban, index: torch.Tensor, what_instead: str) -> None:
    """Raise unless every chosen expert may be chosen and was ranked above minus infinity."""
    if not ban.rankings:
        raise ContractError(
            f"{_where(layer)} chooses among its {layer.num_experts} experts by other means than a top-k, "
            f"sort or maximum over their scores, so none can be banned from the choice. {what_instead}"
        )
    impossible = ~ban.choosable.gather(1, index.to(ban.banned.device))
    if not bool(impossible.any()):
        return
    few = ban.choosable.sum(1, keepdim=True) < layer.top_k
    if bool((impossible & ~few).any()):
        raise ContractError(
            f"{_where(layer)} chose an expert that was banned, so it does not choose by the scores it "
            f"ranks. {what_instead}"
        )
    left = int((~ban.banned).sum(1).min())
    raise InputError(
        f"{_where(layer)} gives each token {layer.top_k} experts, and of the {left} that are not banned "
        "its own rule (limits on groups of experts) lets some token choose fewer. Ban fewer experts, or "
        "experts of other groups."
    )


def _where(layer: MoELayer) -> str:
    router = type(layer.router).__name__ if layer.router is not None else "the router"
    return f"{layer.architecture}, layer {layer.index}: {router}"


def require_enough(layer: MoELayer, banned: int) -> None:
    """Raise InputError unless top-k experts are left when `banned` of them are gone."""
    left = layer.num_experts - banned
    if left < layer.top_k:
        raise InputError(
            f"{_where(layer)} gives each token {layer.top_k} of {layer.num_experts} experts; with "
            f"{banned} of them gone only {left} are left. At most {layer.num_experts - layer.top_k} can "
            "go; Zero() and Skip() take experts away without asking for others in their place."
        )


@torch.no_grad()
def answer_without(
    layer: MoELayer,
    hidden: Float[torch.Tensor, "n d_model"],
    banned: Bool[torch.Tensor, "n experts"],
    scores: Scores = "kept",
) -> tuple[Int[torch.Tensor, "n top_k"], Float[torch.Tensor, "n top_k"]]:
    """What the router of `layer` answers for `hidden` when each row's `banned` experts are gone.

    By the model's own rule: group limits, correction bias, normalisation and scaling included. With
    `scores="kept"` the remaining experts keep the scores that the full router computed and only the
    choice changes; with `scores="remaining"` the banned experts are out of the softmax too, as in a
    checkpoint from which they were deleted. Slots come in the model's own order.

    Raises InputError where fewer experts than top-k are left, ContractError where the router cannot
    be run on its own or does not choose by ranking scores.
    """
    require_enough(layer, int(banned.sum(1).max()) if len(banned) else 0)
    instead = "Use Zero(), Renormalize() or Swap(expert), which need no router, for this model."
    ban = _Ban(banned, scores)
    index, weight = _answer(layer, hidden, ban, instead)
    _require_answer(layer, ban, index, instead)
    return index, weight


def _answer(
    layer: MoELayer, hidden: torch.Tensor, ban: _Ban, instead: str
) -> tuple[torch.Tensor, torch.Tensor]:
    found: list[torch.Tensor] = []

    def stop(_: MoELayer, seen: ExpertsSeen) -> None:
        found.extend([seen.index, seen.weight])
        raise _Answered

    if layer.block is None:
        raise ContractError(f"{_where(layer)} sits in no MoE block that could be run. {instead}")
    try:
        with listening([layer], stop, prepend=True), ban:
            layer.block(hidden[None])
    except _Answered:
        pass
    except (TypeError, RuntimeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        not_memory(error, f"running the router of {_where(layer)}")
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ContractError(
            f"{_where(layer)} cannot be run on its own: {type(layer.block).__name__} at "
            f"'{layer.block_path}' does not take hidden states alone ({type(error).__name__}: {first}). "
            f"{instead}"
        ) from error
    if len(found) != 2 or found[0].shape[0] != len(hidden):
        raise ContractError(
            f"{_where(layer)} cannot be run on its own: {type(layer.block).__name__} at "
            f"'{layer.block_path}' did not call its experts for {len(hidden)} tokens. {instead}"
        )
    return found[0].long(), found[1]


@contextmanager
def without_experts(
    model: Model,
    experts: Mapping[int, Iterable[int]],
    scores: Scores = "remaining",
) -> Iterator[None]:
    """Inside, `model` runs as if these experts (decoder layer -> experts) could not be chosen.

    Every forward, of any batch shape, is that of the pruned model: with `scores="remaining"` the one
    a checkpoint without these experts would give (softmax over the remaining experts), with
    `scores="kept"` the remaining experts keep the full router's scores. The weights stay in memory.

    Raises InputError for layers or experts that do not exist and where fewer than top-k are left;
    ContractError where the router does not choose by ranking scores.
    """
    if scores not in ("kept", "remaining"):
        raise InputError(
            f"without_experts(scores={scores!r}): 'remaining' (softmax over the experts that remain) or "
            "'kept' (scores as the full router computed them) was expected."
        )
    with ExitStack() as stack:
        for index, named in named_experts(experts).items():
            layer, gone = model.anatomy[index], sorted(set(named))
            wrong = [e for e in gone if not 0 <= e < layer.num_experts]
            if wrong:
                raise InputError(
                    f"{model.name}: expert {wrong[0]} does not exist in layer {index}, which has experts 0 "
                    f"to {layer.num_experts - 1}."
                )
            if gone:
                _without(layer, gone, scores, stack)
        yield


def named_experts(experts: object) -> dict[int, tuple[int, ...]]:
    """Experts by decoder layer, as whole numbers; InputError for anything else."""
    wanted = "a mapping from decoder layers to lists of experts was expected, such as {3: [0, 5], 4: [1]}."
    if not isinstance(experts, Mapping):
        raise InputError(f"Experts were named by a {type(experts).__name__}; {wanted}")
    named: dict[int, tuple[int, ...]] = {}
    for index, gone in experts.items():
        if not isinstance(gone, Iterable) or isinstance(gone, (str, bytes)):
            raise InputError(f"Layer {index!r} is given {gone!r}; {wanted}")
        try:
            named[operator.index(index)] = tuple(operator.index(expert) for expert in gone)
        except TypeError:
            raise InputError(
                f"{{{index!r}: {gone!r}}} does not hold whole numbers; {wanted}"
            ) from None
    return named


def _without(layer: MoELayer, gone: list[int], scores: Scores, stack: ExitStack) -> None:
    """Ban experts in every forward of one layer: from the block's start to its experts' call."""
    instead = "Weights can be zeroed instead: Without(..., rule='zero')."
    block = layer.block
    if block is None:
        raise ContractError(f"{_where(layer)} sits in no MoE block that could be run. {instead}")
    row = torch.zeros(1, layer.num_experts, dtype=torch.bool)
    row[0, gone] = True
    require_enough(layer, len(gone))
    active: list[_Ban] = []

    def start(module: Any, args: tuple, kwargs: dict) -> None:  # noqa: ARG001
        hidden = next(x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor))
        tokens = hidden.numel() // hidden.shape[-1]
        ban = _Ban(row.to(hidden.device).expand(tokens, -1), scores)
        active.append(ban)
        ban.__enter__()

    def stop() -> _Ban:
        ban = active.pop()
        ban.__exit__(None, None, None)
        return ban

    def answered(_: MoELayer, seen: ExpertsSeen) -> None:
        if active:  # the experts may also be called on their own, with an answer already made
            _require_answer(layer, stop(), seen.index.long(), instead)

    def never_answered(module: Any, args: tuple, output: Any) -> None:  # noqa: ARG001
        if active:  # an error inside the block, or a router rerun that stopped it early
            stop()

    stack.callback(block.register_forward_pre_hook(start, with_kwargs=True).remove)
    stack.enter_context(listening([layer], answered))
    stack.callback(block.register_forward_hook(never_answered, always_call=True).remove)


def require_reproduced(
    layer: MoELayer,
    hidden: Float[torch.Tensor, "n d_model"],
    index: Int[torch.Tensor, "n top_k"],
    weight: Float[torch.Tensor, "n top_k"],
) -> None:
    """Raise ContractError unless the router, run on its own with nothing banned, answers as it did.

    In half precision one token in fifty may fall on the other side of a tie.
    """
    nothing = torch.zeros(len(hidden), layer.num_experts, dtype=torch.bool, device=hidden.device)
    again, weighs = answer_without(layer, hidden, nothing)
    (index, order), (again, order_again) = index.sort(-1), again.sort(-1)
    weight, weighs = weight.gather(-1, order), weighs.gather(-1, order_again)
    allowed = rounding(weight).answer * weight.abs().amax(-1, keepdim=True)
    wrong = (index != again) | ~((weight - weighs).abs() <= allowed)
    rows = int(wrong.any(-1).sum())
    half = weight.dtype in (torch.float16, torch.bfloat16)
    if rows > (len(hidden) // 50 + 1 if half else 0):
        raise ContractError(
            f"{_where(layer)}, run on its own with nothing banned, gave {rows} of {len(hidden)} tokens "
            "another answer than it gave in the model, so its rule depends on more than the hidden state "
            "that the experts get. Use Zero(), Renormalize() or Swap(expert), which need no router."
        )
