"""The models of analyses/lab/upcycling: a dense Llama trained for each seed, and what is made of it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from moeaudit.lab.upcycling import Tuning, train_experts, upcycle
from moeaudit.models.bundled import TOKENIZER
from moeaudit.text.bundled import corpus
from moeaudit.text.document import Corpus

EXPERTS = 4
LAYERS = [1, 2]  # of four: the first and the last stay dense
# arm: what it is made with; the dense model has no router.
ARMS: dict[str, dict[str, Any] | None] = {
    "dense": None,
    "k-means": {"top_k": 2, "router": "kmeans"},
    "k-means, top 1": {"top_k": 1, "router": "kmeans"},
    "random router": {"top_k": 2, "router": "random"},
    "half re-initialised": {"top_k": 2, "router": "kmeans", "reinitialise": 0.5},
}
_DENSE_MLP = tuple(
    f"layers.{i}.mlp.{name}.weight"
    for i in LAYERS
    for name in ("gate_proj", "up_proj", "down_proj")
)


@dataclass(frozen=True)
class Plan:
    """How long is trained: steps of 8 rows (one a domain) of `length` tokens."""

    dense_steps: int = 500
    steps: int = 250
    length: int = 128
    hidden: int = 64

    @classmethod
    def quick(cls) -> Plan:
        return cls(dense_steps=12, steps=6, length=32, hidden=32)


def words() -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(TOKENIZER)


def halves() -> tuple[Corpus, Corpus]:
    """The bundled training documents in two halves by a hash of each text: the dense model's, and the arms'.

    Every seed has the same halves, and each has all domains.
    """
    return corpus("bundled", split="train").split(0.5, seed=0)


def tokens_of(documents: Corpus) -> dict[str, list[np.ndarray]]:
    """Documents as tokens by domain."""
    tokenizer = words()
    found: dict[str, list[np.ndarray]] = {domain: [] for domain in documents.domains}
    for document in documents:
        found[document.domain].append(np.array(tokenizer(document.text)["input_ids"]))
    return found


def prepared(plan: Plan, seed: int) -> tuple[Any, dict[str, list[np.ndarray]]]:
    """A dense Llama trained on one half of the bundled documents, and the other half as tokens by domain."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = words()
    first, second = halves()
    torch.manual_seed(seed)
    dense = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=plan.hidden,
            intermediate_size=3 * plan.hidden,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    tuning = Tuning(steps=plan.dense_steps, rows=8, length=plan.length, rate=4e-3, seed=seed)
    # Every name ends in nothing, so all parameters move.
    train_experts(dense, tokens_of(first), tuning, parameters=("",))
    return dense, tokens_of(second)


def made(dense: Any, arm: str, seed: int) -> Any:
    """The arm before its training: the dense model, or a mixture made of it."""
    how = ARMS[arm]
    if how is None:
        return copy.deepcopy(dense)
    return upcycle(dense, EXPERTS, layers=LAYERS, tokenizer=words(), seed=seed, **how)


def trained(
    dense: Any, arm: str, plan: Plan, seed: int, documents: dict[str, list[np.ndarray]]
) -> tuple[Any, pd.DataFrame]:
    """The arm after its training on `documents`, of which the dense model has read none; the same for all arms."""
    model = made(dense, arm, seed)
    tuning = Tuning(
        steps=plan.steps, rows=8, length=plan.length, rate=1e-3, router_rate=1e-3, seed=1000 + seed
    )
    if ARMS[arm] is None:
        return model, train_experts(model, documents, tuning, parameters=_DENSE_MLP)
    return model, train_experts(model, documents, tuning)
