"""A small dense Llama with random weights, and token arrays for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

VOCABULARY = 64


def build(seed: int = 0, **changes: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "tie_word_embeddings": True,
    }
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**{**sizes, **changes})).eval()
    with torch.no_grad():  # wide enough that an MLP matters, norms off their defaults
        for parameter in model.parameters():
            parameter.copy_(
                torch.randn(parameter.shape) * 0.2
                if parameter.ndim > 1
                else 1 + 0.1 * torch.randn(parameter.shape)
            )
    return model


def texts(documents: int = 12, tokens: int = 30, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(VOCABULARY, size=tokens) for _ in range(documents)]
