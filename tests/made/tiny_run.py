"""A model folder that the command line can load, with the bundled tokenizer and random weights."""

from __future__ import annotations

from pathlib import Path

SENTENCES = (
    "The router sends every token to a few experts.",
    "A kettle of water takes four minutes to boil.",
    "def add(a, b): return a + b",
    "In the beginning the earth was without form.",
    "Le chat dort sur la chaise pendant la nuit.",
    "Whisk the eggs with sugar until they are pale.",
)
# Each document is its own text: a repeated one would be left out.
TEXTS = [f"{number}. {SENTENCES[number % len(SENTENCES)]}" for number in range(20)]


def save(folder: Path) -> Path:
    """Write a three-layer OLMoE of eight experts, top-2, in hub layout."""
    import torch
    from transformers import OlmoeConfig, OlmoeForCausalLM
    from transformers.utils import logging

    from moeaudit.models.bundled import TOKENIZER

    config = OlmoeConfig(
        vocab_size=2048,
        hidden_size=32,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        num_experts=8,
        num_experts_per_tok=2,
        max_position_embeddings=64,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
        initializer_range=0.1,
    )
    torch.manual_seed(0)
    logging.disable_progress_bar()
    OlmoeForCausalLM(config).save_pretrained(folder)
    for path in TOKENIZER.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder
