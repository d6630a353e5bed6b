"""Published configurations of well-known checkpoints, so that a census can be costed without the hub.

Only what an estimate needs: sizes, kinds of layers, the dtype of the weights. What is not named has the
default of transformers' own class for that architecture. `docs/costs.md` says where each value comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Known:
    """A checkpoint of the hub. `total` is its published number of parameters, in billions."""

    repo: str
    model_type: str
    total: float
    values: dict[str, Any] = field(default_factory=dict)
    source: str = "the model's card on the hub"
    quantised: str | None = None


_DEFAULTS = "defaults of the class in transformers"

_ALL = (
    Known(
        "allenai/OLMoE-1B-7B-0924",
        "olmoe",
        6.92,
        {"intermediate_size": 1024, "max_position_embeddings": 4096},
        f"{_DEFAULTS}; inner width 1024 of an expert and 4,096 positions: config.json",
    ),
    Known(
        "Qwen/Qwen1.5-MoE-A2.7B",
        "qwen2_moe",
        14.3,
        {"max_position_embeddings": 8192},
        f"{_DEFAULTS}, which are this model's; 8,192 positions: config.json",
    ),
    Known(
        "deepseek-ai/DeepSeek-V2-Lite",
        "deepseek_v2",
        15.7,
        {
            "hidden_size": 2048,
            "intermediate_size": 10944,
            "moe_intermediate_size": 1408,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "num_key_value_heads": 16,
            "num_experts_per_tok": 6,
            "first_k_dense_replace": 1,
            "q_lora_rank": None,
            "max_position_embeddings": 163840,
        },
        "config.json",
    ),
    Known(
        "Qwen/Qwen3-30B-A3B",
        "qwen3_moe",
        30.5,
        {"num_hidden_layers": 48, "head_dim": 128, "max_position_embeddings": 40960},
        f"{_DEFAULTS}; 48 layers and heads of 128: the training scripts of slime (qwen3-30B-A3B.sh)",
    ),
    Known(
        "openai/gpt-oss-20b",
        "gpt_oss",
        20.9,
        {"num_hidden_layers": 24, "num_local_experts": 32},
        f"{_DEFAULTS}, which are the 120B's; 24 layers and 32 experts: config.json",
        quantised="mxfp4",
    ),
    Known("mistralai/Mixtral-8x7B-v0.1", "mixtral", 46.7, {}, _DEFAULTS),
    Known(
        "mistralai/Mixtral-8x22B-v0.1",
        "mixtral",
        140.6,
        {
            "hidden_size": 6144,
            "intermediate_size": 16384,
            "num_hidden_layers": 56,
            "num_attention_heads": 48,
            "max_position_embeddings": 65536,
        },
        "config.json; not checked against the hub here, the published 141 B parameters come out",
    ),
    Known("deepseek-ai/DeepSeek-V3", "deepseek_v3", 671.0, {}, _DEFAULTS, quantised="fp8"),
)
KNOWN = {known.repo: known for known in _ALL}
