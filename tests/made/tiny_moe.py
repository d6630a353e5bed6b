"""Tiny random models of the three target architectures, loaded once per test run.

Weights are drawn wide enough that removing an expert visibly changes the predictions; with the
library's default initialisation every effect would be near zero and a comparison could not fail.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

import moeaudit as ma

VOCABULARY = 97
ARCHITECTURES = ("olmoe", "qwen2_moe", "deepseek_v2")

COMMON = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_experts_per_tok=3,
    max_position_embeddings=64,
    pad_token_id=None,
    bos_token_id=None,
    eos_token_id=None,
    tie_word_embeddings=False,
)


def build(architecture: str, seed: int = 0, **changes: Any) -> torch.nn.Module:
    """A transformers model with random weights, in evaluation mode."""
    import transformers as tf

    if architecture == "olmoe":
        config = tf.OlmoeConfig(
            **COMMON | dict(intermediate_size=24, num_key_value_heads=4, num_experts=8) | changes
        )
        kind = tf.OlmoeForCausalLM
    elif architecture == "qwen2_moe":
        sizes = dict(
            intermediate_size=24, moe_intermediate_size=24, shared_expert_intermediate_size=48
        )
        config = tf.Qwen2MoeConfig(
            **COMMON | sizes | dict(num_key_value_heads=2, num_experts=8) | changes
        )
        kind = tf.Qwen2MoeForCausalLM
    else:
        sizes = dict(intermediate_size=48, moe_intermediate_size=24, num_key_value_heads=4)
        latent = dict(
            kv_lora_rank=16, q_lora_rank=None, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8
        )
        experts = dict(n_routed_experts=8, n_shared_experts=1, first_k_dense_replace=1)
        config = tf.DeepseekV2Config(**COMMON | sizes | latent | experts | changes)
        kind = tf.DeepseekV2ForCausalLM
    torch.manual_seed(seed)
    model = kind(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                scale = 1.5 / parameter.shape[-1] ** 0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return model


@functools.cache
def load(architecture: str, seed: int = 0, **changes: Any) -> ma.Model:
    """The same model, loaded by the package; shared by all tests, so none may change it."""
    return ma.load(build(architecture, seed, **changes))


def ids(length: int, seed: int = 0) -> np.ndarray:
    """Random token ids of one chunk."""
    return np.random.default_rng(seed).integers(0, VOCABULARY, length)
