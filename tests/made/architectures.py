"""Tiny random models of many MoE architectures, built from transformers' own configurations.

Each entry says what is peculiar about it and which engine should run. Weights are drawn wide, so
that removing an expert changes the prediction by a good part of a nat or more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

VOCABULARY = 300
DEFAULT = object()  # leave this field as the configuration has it
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 16,
    "expert_intermediate_size": 16,
    "shared_expert_intermediate_size": 24,
    "shared_intermediate_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_experts": 8,
    "n_routed_experts": 8,
    "num_local_experts": 8,
    "moe_num_experts": 8,
    "num_experts_per_tok": 3,
    "moe_k": 3,
    "moe_topk": 3,
    "top_k_experts": 3,
    "n_shared_experts": 1,
    "num_shared_experts": 1,
    "first_k_dense_replace": 1,
    "num_dense_layers": 1,
    "n_group": 1,
    "topk_group": 1,
    "sliding_window": 8,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LATENT: dict[str, Any] = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "qk_head_dim": 16,
    "v_head_dim": 8,
    "head_dim": DEFAULT,
}
MAMBA: dict[str, Any] = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 4,
}


@dataclass(frozen=True)
class Architecture:
    """One architecture: its model type, changes to SIZES, and what is to be expected of it."""

    name: str
    peculiar: str
    engine: str = "wavefront"
    changes: dict[str, Any] = field(default_factory=dict)
    needs_rerun: bool = False  # the routed output meets a norm before the residual

    def build(self, seed: int = 0, **more: Any) -> torch.nn.Module:
        from transformers import CONFIG_MAPPING, AutoModelForCausalLM

        kind = CONFIG_MAPPING[self.name]
        kind = type(kind().get_text_config())
        wanted = SIZES | self.changes | more
        fields = set(kind.__dataclass_fields__) | set(kind.attribute_map)
        config = kind(**{k: v for k, v in wanted.items() if k in fields and v is not DEFAULT})
        torch.manual_seed(seed)
        return widen(AutoModelForCausalLM.from_config(config).eval(), seed)


def widen(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Draw matrices wide enough that experts matter, and move norms and sinks off their defaults."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1 or not bool(torch.isfinite(parameter).all()):
                parameter.copy_(noise * 0.2)
            else:
                parameter.add_(noise * 0.1)
    return model


ARCHITECTURES = [
    Architecture("olmoe", "norms on query and key, no shared expert"),
    Architecture(
        "qwen2_moe",
        "gated shared expert, biases, one dense layer",
        changes={"mlp_only_layers": [1]},
    ),
    Architecture(
        "deepseek_v2",
        "latent attention, unsorted top-k",
        changes=LATENT | {"q_lora_rank": None, "qk_head_dim": DEFAULT},
    ),
    Architecture("deepseek_v3", "sigmoid router, bias for the choice only", changes=LATENT),
    Architecture("mixtral", "weights renormalised, sliding window"),
    Architecture("qwen3_moe", "norms on query and key"),
    Architecture("gpt_oss", "attention sinks, sliding layers, biases, clamped gate"),
    Architecture(
        "granitemoe",
        "residual, embedding and logit multipliers",
        changes={"residual_multiplier": 0.5},
    ),
    Architecture("granitemoeshared", "shared expert beside the routed ones"),
    Architecture("phimoe", "sparsemixer router, biased norms"),
    Architecture("cohere2_moe", "attention and experts in parallel"),
    Architecture("flex_olmo", "norms after attention and after the experts", needs_rerun=True),
    Architecture("afmoe", "gated attention, norms around the experts", needs_rerun=True),
    Architecture(
        "axk1", "latent attention, norm after the experts", changes=LATENT, needs_rerun=True
    ),
    Architecture("glm4_moe", "partial rotary embedding, group-limited choice"),
    Architecture("dots1", "query and key norms, first layer dense"),
    Architecture("ernie4_5_moe", "interleaved rotary embedding, correction bias"),
    Architecture("exaone_moe", "layers of two attention kinds"),
    Architecture("hunyuan_v1_moe", "query and key norms after the rotation"),
    Architecture("minimax_m2", "sigmoid router with correction bias"),
    Architecture("mimo_v2_flash", "sinks and sliding windows by layer"),
    Architecture(
        "longcat_flash",
        "two attentions a layer, identity experts",
        changes=LATENT | {"num_layers": 2, "head_dim": 8},
    ),
    Architecture("jamba", "state-space layers", "full forwards", {"num_experts_per_tok": 2}),
    Architecture("granitemoehybrid", "Mamba layers between attention", "full forwards", MAMBA),
    Architecture(
        "lfm2_moe",
        "short convolutions over tokens",
        "full forwards",
        {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    ),
    Architecture("deepseek_v32", "sparse attention by an indexer", "full forwards", LATENT),
    Architecture("minimax", "lightning attention", "full forwards"),
]
BY_NAME = {each.name: each for each in ARCHITECTURES}
