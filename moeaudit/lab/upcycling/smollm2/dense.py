"""SmolLM2-135M-Instruct from its GGUF file: a Llama in transformers' class, and its tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from .gguf import Gguf

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

_PARTS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_SPECIAL = 3  # of tokenizer.ggml.token_type


def llama(file: Gguf) -> LlamaForCausalLM:
    """The model, in float32 from the numbers that were stored in 4 and 8 bits."""
    from transformers import LlamaConfig, LlamaForCausalLM

    said = {name.removeprefix("llama."): value for name, value in file.values.items()}
    heads = {"attn_q": said["attention.head_count"], "attn_k": said["attention.head_count_kv"]}
    config = LlamaConfig(
        vocab_size=len(file.tensors["token_embd.weight"]),
        hidden_size=said["embedding_length"],
        intermediate_size=said["feed_forward_length"],
        num_hidden_layers=said["block_count"],
        num_attention_heads=heads["attn_q"],
        num_key_value_heads=heads["attn_k"],
        max_position_embeddings=said["context_length"],
        rms_norm_eps=said["attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": said["rope.freq_base"]},
        tie_word_embeddings="output.weight" not in file.tensors,
        bos_token_id=said["tokenizer.ggml.bos_token_id"],
        eos_token_id=said["tokenizer.ggml.eos_token_id"],
        pad_token_id=None,
    )
    state = {}
    for name, array in file.tensors.items():
        place, part = _place(name)
        if part in heads:
            array = _unpermuted(array, heads[part])
        state[place] = torch.from_numpy(np.ascontiguousarray(array))
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model = LlamaForCausalLM(config)
    model.load_state_dict(state)
    model.tie_weights()
    return model.float().eval()


def _place(name: str) -> tuple[str, str]:
    """(name in transformers, part) of a tensor."""
    outer = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    }
    if name in outer:
        return outer[name], name
    _, number, part, kind = name.split(".")
    return f"model.layers.{number}.{_PARTS[part]}.{kind}", part


def _unpermuted(array: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp stores query and key with a head's rows in pairs, as its rotation reads them: put them back."""
    rows, width = array.shape
    return array.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width)


def tokenizer(file: Gguf) -> PreTrainedTokenizerFast:
    """The byte-level BPE of the file; digits one by one, as it was trained. It adds no token of its own."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    said = file.values
    words: list[str] = said["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ")) for pair in said["tokenizer.ggml.merges"]]
    fast = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges))
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    fast.decoder = decoders.ByteLevel()
    kinds = said["tokenizer.ggml.token_type"]
    special = [word for word, kind in zip(words, kinds) if kind == _SPECIAL]
    fast.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        bos_token=words[said["tokenizer.ggml.bos_token_id"]],
        eos_token=words[said["tokenizer.ggml.eos_token_id"]],
        chat_template=said.get("tokenizer.chat_template"),
    )
