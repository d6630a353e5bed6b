"""The same row through TransformerLens: hooks of the bridge on expert weights and the MoE output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from moeaudit.errors import InputError, ModelError
from moeaudit.models import Model, MoELayer
from moeaudit.models.anatomy import Anatomy, known_anatomy, remember

from ..edits import CannotExpress, edits_of
from ..row import Change, Edit, Row, edited_weights, with_vector
from .base import Engine, structural_twin

if TYPE_CHECKING:
    from ...operators.routing import Operator

Hooks = list[tuple[str, Callable[..., Any]]]

# Architectures whose bridge was checked to be exact against plain hooks.
SUPPORTED = frozenset({"OlmoeForCausalLM", "Qwen2MoeForCausalLM"})


def why_not(architecture: str) -> str | None:
    """None for an architecture whose bridge can edit expert weights, else why it cannot."""
    if architecture in SUPPORTED:
        return None
    if architecture == "DeepseekV2ForCausalLM":
        return (
            "TransformerLens cannot remove a single expert of DeepSeek-V2: its adapter wraps "
            "the router as a plain component, without the hook on expert weights "
            "(blocks.L.mlp.hook_expert_weights) that it has for OLMoE and Qwen2-MoE, and "
            "editing the router's logits there changes nothing. Use the engine hooks or "
            "nnsight instead."
        )
    return (
        f"TransformerLens was checked here for {' and '.join(sorted(SUPPORTED))} only, and "
        f"this model is a {architecture}. Use the engine hooks or nnsight instead."
    )


class TransformerLensEngine(Engine):
    """One `run_with_hooks` of a TransformerBridge per row.

    The bridge replaces submodules of the model it wraps and switches it to eager attention, so it
    gets a twin that shares the weights. No tokenizer is handed over and nothing is downloaded.
    """

    name: ClassVar[str] = "transformer_lens"

    @classmethod
    def supports(cls, model: Model) -> str | None:
        return why_not(type(model.hf).__name__)

    @cached_property
    def bridge(self) -> Any:
        from transformer_lens.model_bridge.sources import build_bridge_from_module

        twin = structural_twin(self.model.hf)
        return build_bridge_from_module(twin, type(self.model.hf).__name__, hf_config=twin.config)

    def logits(self, ids: Int64[Tensor, "1 time"]) -> Float[Tensor, "time vocab"]:
        return self.bridge(ids, return_type="logits", prepend_bos=False)[0]

    def edited_logits(
        self, ids: Int64[Tensor, "1 time"], edits: Mapping[int, Edit]
    ) -> Float[Tensor, "time vocab"]:
        anatomy = self.model.anatomy
        hooks = [
            hook for index, edit in edits.items() for hook in bridge_hooks(anatomy[index], edit)
        ]
        return self.bridge.run_with_hooks(
            ids, return_type="logits", prepend_bos=False, fwd_hooks=hooks
        )[0]


def bridge_hooks(moe: MoELayer, edit: Edit) -> Hooks:
    """Hooks that make `edit` in a bridge: what the experts read, their weights, the block's output.

    The vector is added to the output of the whole block, which is the routed output plus, in
    Qwen2-MoE, the shared expert's: both enter the residual by addition, so the place is the same.
    """
    seen: dict[str, Tensor] = {}
    made: list[Change] = []
    busy = False

    def read(hidden: Tensor, hook: Any) -> None:  # noqa: ARG001
        if busy:  # an operator may ask the block itself
            return
        if hidden.ndim == 3 and len(hidden) != 1:  # [batch, time, d]
            raise InputError(
                f"The hooks were made for one prompt, and {len(hidden)} were given at once: weights carry no "
                "batch dimension, so an edit would land in the first of them. Run one prompt at a time."
            )
        seen["hidden"] = hidden.reshape(-1, hidden.shape[-1])

    def reweigh(weights: Tensor, hook: Any) -> Tensor | None:  # noqa: ARG001
        nonlocal busy
        if busy:
            return None
        # [time, experts], zero where an expert is not active; slots are not known here.
        index = weights.topk(moe.top_k, dim=-1).indices.sort(dim=-1).values
        busy = True
        try:
            made.append(edit(seen["hidden"], index, weights.gather(-1, index)))
        finally:
            busy = False
        return _as_the_bridge_holds(edited_weights(weights, made[-1]), moe)

    def add(output: Tensor, hook: Any) -> Tensor | None:  # noqa: ARG001
        return None if busy else with_vector(output, made[-1])

    block = f"blocks.{moe.index}.mlp"
    return [
        (f"{block}.hook_in", read),
        (f"{block}.hook_expert_weights", reweigh),
        (f"{block}.hook_out", add),
    ]


def _as_the_bridge_holds(weights: Tensor, moe: MoELayer) -> Tensor:
    # After an edit the bridge takes the k largest weights, which keeps an entering expert, but
    # would drop one of more than k experts, and a negative weight in favour of an idle expert.
    most = int((weights != 0).sum(-1).max())
    if most > moe.top_k or bool((weights < 0).any()):
        what = "a negative weight" if most <= moe.top_k else f"{most} experts for one token"
        raise CannotExpress(
            f"TransformerLens cannot hold this answer of layer {moe.index}: it has {what}, and the bridge keeps "
            f"the {moe.top_k} largest weights of a token. Use the engine hooks or nnsight instead."
        )
    return weights


def handed_over(operator: Operator, model: Any, row: Row) -> Hooks:
    """Hooks that make one row of an operator in a bridge."""
    anatomy = _anatomy(model)
    reason = why_not(anatomy.architecture)
    if reason is not None:
        raise ModelError(reason)
    edits = edits_of(operator, anatomy, row)
    return [hook for index, edit in edits.items() for hook in bridge_hooks(anatomy[index], edit)]


def _anatomy(model: Any) -> Anatomy:
    from transformers import PreTrainedModel

    from moeaudit.models.find import find_anatomy
    from moeaudit.models.forward import evaluating

    if isinstance(model, Model):
        return model.anatomy
    hf = getattr(model, "original_model", None)
    if not isinstance(hf, PreTrainedModel):
        raise InputError(
            f"as_transformer_lens_hooks() was given a {type(model).__name__}. A TransformerBridge, or the "
            "model that moeaudit.load made of one, was expected."
        )
    found = known_anatomy(hf)
    if found is None:
        with torch.no_grad(), evaluating(hf):
            found = find_anatomy(hf)
        remember(hf, found)
    return found
