"""The same cell through TransformerLens: a hook on the router's expert weights of the bridge."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

from jaxtyping import Float, Int64
from torch import Tensor

from ...models import Model
from .base import Engine, structural_twin

# Architectures whose bridge was checked to be exact against plain hooks.
SUPPORTED = frozenset({"OlmoeForCausalLM", "Qwen2MoeForCausalLM"})


class TransformerLensEngine(Engine):
    """One `run_with_hooks` of a TransformerBridge per cell, at `blocks.L.mlp.hook_expert_weights`.

    The bridge replaces submodules of the model it wraps and switches it to eager attention, so it
    gets a twin that shares the weights. No tokenizer is handed over and nothing is downloaded.
    """

    name: ClassVar[str] = "transformer_lens"

    @classmethod
    def supports(cls, model: Model) -> str | None:
        architecture = type(model.hf).__name__
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

    @cached_property
    def bridge(self) -> Any:
        from transformer_lens.model_bridge.sources import build_bridge_from_module

        twin = structural_twin(self.model.hf)
        return build_bridge_from_module(twin, type(self.model.hf).__name__, hf_config=twin.config)

    def logits(self, ids: Int64[Tensor, "1 time"]) -> Float[Tensor, "time vocab"]:
        return self.bridge(ids, return_type="logits", prepend_bos=False)[0]

    def ablated_logits(
        self, ids: Int64[Tensor, "1 time"], position: int, layer: int, expert: int
    ) -> Float[Tensor, " vocab"] | None:
        active = False

        def zero_one_weight(weights: Tensor, hook: Any) -> Tensor:  # noqa: ARG001
            nonlocal active
            active = bool(weights[position, expert] != 0)  # [time, experts], zero if not chosen
            weights = weights.clone()
            weights[position, expert] = 0
            return weights

        logits = self.bridge.run_with_hooks(
            ids,
            return_type="logits",
            prepend_bos=False,
            fwd_hooks=[(f"blocks.{layer}.mlp.hook_expert_weights", zero_one_weight)],
        )
        return logits[0, position] if active else None
