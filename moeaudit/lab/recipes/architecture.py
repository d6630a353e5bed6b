"""A recipe's `[model]` as a configuration of transformers."""

from __future__ import annotations

from typing import Any

from .sections import Shape


def configuration(shape: Shape, vocabulary: int) -> Any:
    """The configuration of the family's own class; special tokens are set when the model is saved."""
    return _OF[shape.family](
        shape,
        {
            "vocab_size": vocabulary,
            "hidden_size": shape.hidden,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.heads,
            "max_position_embeddings": shape.context,
            "tie_word_embeddings": False,
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": None,
        },
    )


def _olmoe(shape: Shape, common: dict[str, Any]) -> Any:
    from transformers import OlmoeConfig

    return OlmoeConfig(
        **common,
        intermediate_size=shape.width,
        num_experts=shape.experts,
        num_experts_per_tok=shape.top_k,
        norm_topk_prob=shape.norm_topk_prob,
    )


def _qwen2_moe(shape: Shape, common: dict[str, Any]) -> Any:
    from transformers import Qwen2MoeConfig

    return Qwen2MoeConfig(
        **common,
        intermediate_size=shape.dense_width,
        moe_intermediate_size=shape.width,
        shared_expert_intermediate_size=shape.shared_width,
        num_experts=shape.experts,
        num_experts_per_tok=shape.top_k,
        norm_topk_prob=shape.norm_topk_prob,
    )


def _deepseek_v2(shape: Shape, common: dict[str, Any]) -> Any:
    from transformers import DeepseekV2Config

    head = shape.hidden // shape.heads
    return DeepseekV2Config(
        **common,
        intermediate_size=shape.dense_width,
        moe_intermediate_size=shape.width,
        first_k_dense_replace=shape.dense_layers,
        q_lora_rank=None,
        kv_lora_rank=max(8, shape.hidden // 2),
        qk_nope_head_dim=head,
        qk_rope_head_dim=max(2, head // 4 * 2),
        v_head_dim=head,
        n_routed_experts=shape.experts,
        n_shared_experts=shape.shared_width // shape.width,
        num_experts_per_tok=shape.top_k,
        topk_method="greedy",
        norm_topk_prob=False,
        routed_scaling_factor=1.0,
    )


def _llama(shape: Shape, common: dict[str, Any]) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(**common, intermediate_size=shape.dense_width)


_OF = {"olmoe": _olmoe, "qwen2-moe": _qwen2_moe, "deepseek-v2": _deepseek_v2, "llama": _llama}
