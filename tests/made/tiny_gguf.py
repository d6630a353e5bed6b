"""A GGUF file of a small Llama, written by hand, as llama.cpp stores one: query and key permuted, weights packed."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

ALIGN = 32


def string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(x: Any) -> bytes:
    """A value with its kind in front."""
    if isinstance(x, bool):
        return struct.pack("<IB", 7, x)
    if isinstance(x, int):
        return struct.pack("<II", 4, x)
    if isinstance(x, float):
        return struct.pack("<If", 6, x)
    if isinstance(x, str):
        return struct.pack("<I", 8) + string(x)
    kind, body = (
        (8, b"".join(map(string, x)))
        if isinstance(x[0], str)
        else (5, struct.pack(f"<{len(x)}i", *x))
    )
    return struct.pack("<IIQ", 9, kind, len(x)) + body


def q8(array: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Bytes of kind 8, and the numbers that they stand for."""
    block = array.reshape(-1, 32)
    scale = (np.abs(block).max(1, keepdims=True) / 127).astype("<f2")
    whole = np.round(block / np.maximum(scale.astype(np.float32), 1e-9)).astype("i1")
    data = np.concatenate([scale.view(np.uint8).reshape(-1, 2), whole.view(np.uint8)], 1).tobytes()
    return data, (whole * scale.astype(np.float32)).reshape(array.shape)


def q4(array: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Bytes of kind 3, and the numbers that they stand for."""
    block = array.reshape(-1, 32)
    least = block.min(1, keepdims=True).astype("<f2")
    scale = ((block.max(1, keepdims=True) - least.astype(np.float32)) / 15).astype("<f2")
    step = np.maximum(scale.astype(np.float32), 1e-9)
    half = np.clip(np.round((block - least.astype(np.float32)) / step), 0, 15).astype(np.uint8)
    packed = half[:, :16] | (half[:, 16:] << 4)
    parts = [scale.view(np.uint8).reshape(-1, 2), least.view(np.uint8).reshape(-1, 2), packed]
    said = half * scale.astype(np.float32) + least.astype(np.float32)
    return np.concatenate(parts, 1).tobytes(), said.reshape(array.shape)


def raw(array: np.ndarray) -> tuple[bytes, np.ndarray]:
    return array.astype("<f4").tobytes(), array.astype(np.float32)


KINDS = {0: raw, 3: q4, 8: q8}


def write(values: dict[str, Any], tensors: dict[str, tuple[np.ndarray, int]]) -> tuple[bytes, dict]:
    """The file, and the numbers that its tensors (array, kind) stand for."""
    described, data, said = b"", b"", {}
    for name, (array, kind) in tensors.items():
        packed, said[name] = KINDS[kind](array)
        dims = array.shape[::-1]
        described += string(name) + struct.pack(
            f"<I{len(dims)}QIQ", len(dims), *dims, kind, len(data)
        )
        data += packed + b"\0" * (-len(packed) % ALIGN)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    head += b"".join(string(name) + value(x) for name, x in values.items()) + described
    return head + b"\0" * (-len(head) % ALIGN) + data, said


def permuted(array: np.ndarray, heads: int) -> np.ndarray:
    """As llama.cpp's conversion stores query and key: a head's two halves row by row in turn."""
    rows, width = array.shape
    return array.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


def llama(dense: Any) -> tuple[bytes, dict[str, np.ndarray]]:
    """The file of a dense transformers Llama, and its state as the file says it (rounded)."""
    config = dense.config
    words = [
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        *"abcdefghijklmnopqrstuvwxyz0123456789",
        "Ġ",
        "ab",
    ]
    words += [f"unused{i}" for i in range(config.vocab_size - len(words))]
    values = {
        "general.architecture": "llama",
        "llama.block_count": config.num_hidden_layers,
        "llama.context_length": config.max_position_embeddings,
        "llama.embedding_length": config.hidden_size,
        "llama.feed_forward_length": config.intermediate_size,
        "llama.attention.head_count": config.num_attention_heads,
        "llama.attention.head_count_kv": config.num_key_value_heads,
        "llama.rope.freq_base": float(config.rope_parameters["rope_theta"]),
        "llama.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.token_type": [3, 3, 3] + [1] * (len(words) - 3),
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    names = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    tensors, place = {}, {}
    for name, tensor in dense.state_dict().items():
        array = tensor.numpy()
        if name in ("model.embed_tokens.weight", "model.norm.weight"):
            at = "token_embd.weight" if "embed" in name else "output_norm.weight"
            tensors[at] = (array, 8 if array.ndim == 2 else 0)
        elif name == "lm_head.weight":
            continue
        else:
            _, _, layer, rest = name.split(".", 3)
            at = f"blk.{layer}.{names[rest.removesuffix('.weight')]}.weight"
            part = at.split(".")[2]
            stored = permuted(array, heads[part]) if part in heads else array
            tensors[at] = (stored, 3 if array.ndim == 2 else 0)
        place[at] = name
    data, said = write(values, tensors)
    state = {}
    for at, array in said.items():
        part = at.split(".")[2] if at.startswith("blk.") else ""
        if part in heads:
            h = heads[part]
            rows, width = array.shape
            array = array.reshape(h, rows // h // 2, 2, width).swapaxes(1, 2).reshape(rows, width)
        state[place[at]] = array
    return data, state
