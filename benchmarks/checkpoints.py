"""Checkpoints of the three models at their real size, with random weights, laid out as on the hub.

Configuration, tensor names, shapes, dtype (bfloat16), number of shards and index are those of
`allenai/OLMoE-1B-7B-0924`, `Qwen/Qwen1.5-MoE-A2.7B` and `deepseek-ai/DeepSeek-V2-Lite`; only the numbers
are drawn at random (normal, 0.02, the models' own initialisation; norms are 1). A tensor's numbers depend
on the seed and on its name alone. Written tensor by tensor, so that no model ever stands in memory.

    python benchmarks/checkpoints.py olmoe FOLDER --tokenizer tiny-olmoe   # 14 GB that read text

`--tokenizer` puts the tokenizer of a bundled model (or of a folder) beside the weights, so that text can be
read: its ids are fewer than the vocabulary, and weights that are random have no use for the right ones.
"""

from __future__ import annotations

import argparse
import json
import shutil
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

STD = 0.02


@dataclass(frozen=True)
class Real:
    """A model of the hub: its `config.json`, how many shards it comes in, and its tokenizer's class."""

    repo: str
    config: dict[str, Any]
    shards: int
    tokenizer: str


_DECODER = {"torch_dtype": "bfloat16", "tie_word_embeddings": False, "hidden_act": "silu"}
REAL = {
    "olmoe": Real(
        "allenai/OLMoE-1B-7B-0924",
        {
            **_DECODER,
            "architectures": ["OlmoeForCausalLM"],
            "model_type": "olmoe",
            "vocab_size": 50304,
            "hidden_size": 2048,
            "intermediate_size": 1024,
            "num_hidden_layers": 16,
            "num_attention_heads": 16,
            "num_key_value_heads": 16,
            "num_experts": 64,
            "num_experts_per_tok": 8,
            "norm_topk_prob": False,
            "max_position_embeddings": 4096,
            "rope_theta": 10000.0,
            "rms_norm_eps": 1e-05,
            "clip_qkv": None,
            "pad_token_id": 1,
            "eos_token_id": 50279,
        },
        3,
        "GPTNeoXTokenizer",
    ),
    "qwen2_moe": Real(
        "Qwen/Qwen1.5-MoE-A2.7B",
        {
            **_DECODER,
            "architectures": ["Qwen2MoeForCausalLM"],
            "model_type": "qwen2_moe",
            "vocab_size": 151936,
            "hidden_size": 2048,
            "intermediate_size": 5632,
            "moe_intermediate_size": 1408,
            "shared_expert_intermediate_size": 5632,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "num_key_value_heads": 16,
            "num_experts": 60,
            "num_experts_per_tok": 4,
            "norm_topk_prob": False,
            "decoder_sparse_step": 1,
            "max_position_embeddings": 8192,
            "max_window_layers": 21,
            "use_sliding_window": False,
            "sliding_window": 32768,
            "rope_theta": 1000000.0,
            "rms_norm_eps": 1e-06,
            "bos_token_id": 151643,
            "eos_token_id": 151643,
        },
        8,
        "Qwen2Tokenizer",
    ),
    "deepseek_v2": Real(
        "deepseek-ai/DeepSeek-V2-Lite",
        {
            **_DECODER,
            "architectures": ["DeepseekV2ForCausalLM"],
            "model_type": "deepseek_v2",
            "vocab_size": 102400,
            "hidden_size": 2048,
            "intermediate_size": 10944,
            "moe_intermediate_size": 1408,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "num_key_value_heads": 16,
            "n_routed_experts": 64,
            "n_shared_experts": 2,
            "num_experts_per_tok": 6,
            "first_k_dense_replace": 1,
            "moe_layer_freq": 1,
            "norm_topk_prob": False,
            "routed_scaling_factor": 1.0,
            "scoring_func": "softmax",
            "topk_method": "greedy",
            "n_group": 1,
            "topk_group": 1,
            "kv_lora_rank": 512,
            "q_lora_rank": None,
            "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64,
            "v_head_dim": 128,
            "attention_bias": False,
            "max_position_embeddings": 163840,
            "rope_theta": 10000,
            "rope_scaling": {
                "type": "yarn",
                "factor": 40,
                "beta_fast": 32,
                "beta_slow": 1,
                "mscale": 0.707,
                "mscale_all_dim": 0.707,
                "original_max_position_embeddings": 4096,
            },
            "rms_norm_eps": 1e-06,
            "bos_token_id": 100000,
            "eos_token_id": 100001,
        },
        4,
        "LlamaTokenizer",
    ),
}
# Widths that `scale` divides; heads follow, so that a head stays as wide as it is.
_WIDTHS = (
    *("vocab_size", "hidden_size", "intermediate_size", "moe_intermediate_size"),
    *("shared_expert_intermediate_size", "kv_lora_rank", "num_attention_heads"),
    *("num_key_value_heads", "bos_token_id", "eos_token_id"),
)


def scaled(config: dict[str, Any], scale: float) -> dict[str, Any]:
    """The configuration with its widths times `scale` (1 for the real size); layers and experts stay,
    but for very small scales, where at most four layers are kept."""
    out = dict(config)
    if scale == 1:
        return out
    for name in _WIDTHS:
        if out.get(name) is not None:
            whole = max(1, round(out[name] * scale))
            out[name] = whole if "heads" in name or "token" in name else -(-whole // 16) * 16
    if "v_head_dim" not in out:
        out["head_dim"] = config["hidden_size"] // config["num_attention_heads"]
        out["hidden_size"] = out["num_attention_heads"] * out["head_dim"]
    if scale < 0.1:
        out["num_hidden_layers"] = 4
    return out


def tensors_of(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes as the hub's files have them, in the order of the layers; no weight is made."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.core_model_loading import dot_natural_key, revert_weight_conversion

    given = {name: value for name, value in config.items() if name != "architectures"}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(**given), dtype=torch.bfloat16
        )
    stored = revert_weight_conversion(model, model.state_dict())
    return {
        name: tuple(stored[name].shape)
        for name in sorted(stored, key=lambda name: dot_natural_key(name))
    }


def numbers(name: str, shape: tuple[int, ...], seed: int) -> Iterator[bytes]:
    """The tensor's bytes in bfloat16, some at a time."""
    total = int(np.prod(shape))
    if len(shape) == 1 and "norm" in name:
        yield torch.ones(total, dtype=torch.bfloat16).view(torch.uint8).numpy().tobytes()
        return
    rng = np.random.Generator(np.random.SFC64([seed, zlib.crc32(name.encode())]))
    for at in range(0, total, 1 << 24):
        some = rng.standard_normal(min(1 << 24, total - at), dtype=np.float32)
        yield torch.from_numpy(some).mul_(STD).bfloat16().view(torch.uint8).numpy().tobytes()


def write(
    folder: Path, model: str, *, scale: float = 1.0, seed: int = 0, workers: int = 1
) -> dict[str, int]:
    """Write the checkpoint of `model` into `folder`, `workers` shards at a time; returns bytes and parameters.

    Shards that are there already are left as they are.
    """
    real = REAL[model]
    config = scaled(real.config, scale)
    shapes = tensors_of(config)
    size = {name: 2 * int(np.prod(shape)) for name, shape in shapes.items()}
    total = sum(size.values())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    shards: list[list[str]] = [[] for _ in range(real.shards)]
    filled = 0
    for name in shapes:
        shards[min(real.shards - 1, filled * real.shards // total)].append(name)
        filled += size[name]
    where, jobs = {}, []
    for i, names in enumerate(shards):
        file = f"model-{i + 1:05d}-of-{real.shards:05d}.safetensors"
        where |= dict.fromkeys(names, file)
        jobs.append((folder / file, {name: shapes[name] for name in names}, seed))
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            list(pool.map(_write_shard, *zip(*jobs)))
    else:
        for job in jobs:
            _write_shard(*job)
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    return {"bytes": total, "parameters": total // 2}


def _write_shard(path: Path, shapes: dict[str, tuple[int, ...]], seed: int) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        end = at + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    said = json.dumps(header).encode()
    said += b" " * (-len(said) % 8)
    if path.exists() and path.stat().st_size == 8 + len(said) + at:
        return
    part = path.with_suffix(".part")
    with part.open("wb") as stream:
        stream.write(struct.pack("<Q", len(said)) + said)
        for name, shape in shapes.items():
            for block in numbers(name, shape, seed):
                stream.write(block)
    part.rename(path)


def lend_tokenizer(folder: Path, source: str) -> list[str]:
    """Copy the tokenizer's files of a bundled model or of a folder into `folder`; their names.

    Raises FileNotFoundError where there are none.
    """
    bundled = Path(__file__).parents[1] / "moeaudit/models/bundled" / source
    files = sorted((bundled if bundled.is_dir() else Path(source)).glob("tokenizer*"))
    if not files:
        raise FileNotFoundError(f"{source} has no tokenizer files to copy into {folder}.")
    for file in files:
        shutil.copy(file, folder / file.name)
    return [file.name for file in files]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=sorted(REAL))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="widths times this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="shards written at a time")
    parser.add_argument("--tokenizer", help="a bundled model or a folder to take it from")
    options = parser.parse_args(arguments)
    sizes = write(
        options.folder,
        options.model,
        scale=options.scale,
        seed=options.seed,
        workers=options.workers,
    )
    lent = lend_tokenizer(options.folder, options.tokenizer) if options.tokenizer else []
    print(
        f"{options.folder}: {sizes['parameters']:,} parameters, {', '.join(lent) or 'no tokenizer'}"
    )


if __name__ == "__main__":
    main()
