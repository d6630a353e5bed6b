"""Complete-muE in training: multipliers folded into weights and rates, so that checkpoints stay ordinary ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from moeaudit.errors import InputError

from ..training.mechanism import Mechanism
from .multipliers import Multipliers

_HEAD, _EMBEDDING = "lm_head.weight", "embed_tokens.weight"


@dataclass(frozen=True)
class CompleteMuE(Mechanism):
    """`[mechanisms.complete_mue]`: `base`, the width d* at which rates and starts are the recipe's own.

    A multiplier m on a matrix that Adam moves is the same as a start and a rate m times as large (Adam's steps do not
    depend on the size of the gradient; exact for weight decay 0 and a vanishing epsilon), so A, R and the head's
    multiplier are folded in and the model stays one of transformers' own class. The rules are Adam's: a recipe
    without `optimiser = "adamw"` is refused. Gates must sum to one; the model's softmax over the chosen does
    (`norm_topk_prob = true`, which is set here), where the authors take normalised sigmoids.
    """

    name: ClassVar[str] = "complete_mue"
    optimiser: ClassVar[str | None] = "adamw"
    base: int = 64
    # Factors by parameter name, known once the model is there.
    _rates: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.base < 1:
            raise InputError(
                f"[mechanisms.complete_mue] base is {self.base}; at least 1 was expected."
            )

    def to_dict(self) -> dict[str, Any]:
        return {"base": self.base}

    @classmethod
    def from_dict(cls, settings: Any) -> CompleteMuE:
        from moeaudit.errors import one_of

        for key in settings:
            one_of(key, ["base"], "a key of [mechanisms.complete_mue]")
        return cls(**settings)

    def prepare(self, model: nn.Module, config: Any) -> None:
        """Scale what the model starts with, by layer, and set the gates to sum to one.

        Raises InputError for a router that cannot renormalise its gates (DeepSeek-V2 in transformers).
        """
        if config.model_type == "deepseek_v2":
            raise InputError(
                "[mechanisms.complete_mue] needs gates that sum to one, and the router of deepseek-v2 in transformers "
                "does not renormalise. Take the family olmoe or qwen2-moe."
            )
        config.norm_topk_prob = True
        for module in model.modules():
            if hasattr(module, "norm_topk_prob"):
                module.norm_topk_prob = True  # type: ignore[assignment]
        of = multipliers_of(config, self.base)
        self._rates.clear()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                start, rate = _factors(name, parameter, of)
                parameter.mul_(start)
                self._rates[name] = rate

    def rate(self, name: str, parameter: Tensor) -> float:  # noqa: ARG002
        return self._rates.get(name, 1.0)


def multipliers_of(config: Any, base: int | None = None) -> Multipliers:
    """The multipliers of a small OLMoE or Qwen2-MoE from its configuration."""
    width = getattr(config, "moe_intermediate_size", None) or config.intermediate_size
    shared = getattr(config, "shared_expert_intermediate_size", None) or 0
    return Multipliers(config.hidden_size, config.num_experts_per_tok, width, shared, base)


def _factors(name: str, parameter: Tensor, of: Multipliers) -> tuple[float, float]:
    """(factor on the start, factor on the rate) of one parameter."""
    if parameter.ndim < 2 or name.endswith(_EMBEDDING):
        return 1.0, 1.0
    if name.endswith(_HEAD):
        return 1 / of.rho, 1 / of.rho
    if name.endswith("experts.down_proj"):
        return of.routed_start, of.routed_rate
    if name.endswith("shared_expert.down_proj.weight"):
        return of.shared_start, of.shared_rate
    return of.rho**-0.5, 1 / of.rho
