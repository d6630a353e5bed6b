"""The three bundled architectures, each its big sibling in miniature, and the training settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeaudit.errors import InputError, one_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig

CONTEXT = 512  # tokens


def _olmoe(vocabulary: int) -> PretrainedConfig:
    """OLMoE-1B-7B: every layer sparse, one slot in eight active, no shared expert, QK-norm."""
    from transformers import OlmoeConfig

    return OlmoeConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=48,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_experts=32,
        num_experts_per_tok=4,
        norm_topk_prob=False,
        max_position_embeddings=CONTEXT,
        pad_token_id=None,
        eos_token_id=None,
    )


def _qwen2_moe(vocabulary: int) -> PretrainedConfig:
    """Qwen1.5-MoE-A2.7B: a gated shared expert as wide as the active routed ones, qkv bias."""
    from transformers import Qwen2MoeConfig

    return Qwen2MoeConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=256,
        moe_intermediate_size=64,
        shared_expert_intermediate_size=256,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        num_experts=24,
        num_experts_per_tok=4,
        norm_topk_prob=False,
        max_position_embeddings=CONTEXT,
    )


def _deepseek_v2(vocabulary: int) -> PretrainedConfig:
    """DeepSeek-V2-Lite: latent attention without a query rank, 2 shared experts, layer 0 dense."""
    from transformers import DeepseekV2Config

    return DeepseekV2Config(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=384,
        moe_intermediate_size=48,
        num_hidden_layers=7,
        first_k_dense_replace=1,
        num_attention_heads=4,
        q_lora_rank=None,
        kv_lora_rank=64,
        qk_nope_head_dim=32,
        qk_rope_head_dim=16,
        v_head_dim=32,
        n_routed_experts=32,
        n_shared_experts=2,
        num_experts_per_tok=6,
        topk_method="greedy",
        norm_topk_prob=False,
        routed_scaling_factor=1.0,
        max_position_embeddings=CONTEXT,
        bos_token_id=None,
        eos_token_id=None,
    )


ARCHITECTURES: dict[str, Callable[[int], PretrainedConfig]] = {
    "tiny-olmoe": _olmoe,
    "tiny-qwen2-moe": _qwen2_moe,
    "tiny-deepseek-v2": _deepseek_v2,
}


def architecture(name: str, vocabulary: int) -> PretrainedConfig:
    """The configuration of a bundled model; raises `InputError` for a name not known."""
    return ARCHITECTURES[one_of(name, ARCHITECTURES, "architecture")](vocabulary)


OF_THE_DECAY = ("steps", "decay_steps", "long", "late_balance")


@dataclass(frozen=True)
class Settings:
    """One training run. The learning rate warms up, stays, and falls to zero over the last steps.

    The settings in `OF_THE_DECAY` matter to the decay alone, so a run cut short anywhere in its
    constant part can be finished early or late without changing what came before.
    """

    steps: int
    decay_steps: int
    seed: int = 0
    warmup_steps: int = 50
    rows_per_step: int = 16  # of `short` tokens; rows of `long` tokens are fewer, tokens the same
    short: int = 256  # row length while the rate is constant
    long: int = CONTEXT  # row length in the decay
    matrix_rate: float = 0.02  # Muon: hidden matrices and experts
    vector_rate: float = 0.01  # AdamW: embeddings, head, norms, biases
    router_rate: float = 0.004  # AdamW: routers; slower, or early favourites keep their lead
    balance: float = 0.01  # coefficient of the load-balancing loss, a mean over layers,
    late_balance: float = 0.05  # and in the decay, so that no expert is left without work
    z: float = 0.001  # coefficient of the router z-loss, a mean over layers

    def __post_init__(self) -> None:
        if not 0 <= self.decay_steps <= self.steps:
            raise InputError(
                f"The decay takes {self.decay_steps} of {self.steps} steps; it must fit in them."
            )
        if self.rows_per_step * self.short % self.long:
            raise InputError(
                f"{self.rows_per_step} rows of {self.short} tokens do not make whole rows of "
                f"{self.long} tokens. Choose rows_per_step so that they do."
            )

    def rate(self, step: int) -> float:
        """Factor on the learning rates at `step` (from 0)."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        left = (self.steps - step) / max(1, self.decay_steps)
        return min(warm, 1.0, left)

    def decays(self, step: int) -> bool:
        """Whether `step` belongs to the decay."""
        return step >= self.steps - self.decay_steps

    def length(self, step: int) -> int:
        """Row length in tokens at `step`."""
        return self.long if self.decays(step) else self.short

    def balance_at(self, step: int) -> float:
        """Coefficient of the load-balancing loss at `step`."""
        return self.late_balance if self.decays(step) else self.balance
