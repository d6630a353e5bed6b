"""Measure an exported model on documents it has not seen: the figures of its card.

    python -m moeaudit.lab.bundled.card.evaluate moeaudit/models/bundled/tiny-olmoe --corpus corpus

The weights are those on disk, computed in float32 by transformers' own code. Documents come from
the test split, the same number a domain, drawn by a seed. Long ones are read in windows of the
model's context; each window starts afresh with the last token of the one before, so every token
but a document's first is predicted once. Writes `figures.json` into the model's folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from moeaudit.errors import MoeAuditError
from moeaudit.text.making.full import TokenizedText, available, document_tokens
from moeaudit.text.making.slices import TRAINING_DOMAINS

from ...training.data import Mixture, Tokens
from ...training.model import Routers, quiet
from .card import card
from .ngram import Trigram, windows
from .routing import dependence, utilisation

Texts = dict[str, list[TokenizedText]]


@dataclass
class Reading:
    """One pass over some documents; all arrays have one row a document, in order."""

    domains: list[str]
    n_bytes: Float64[np.ndarray, " documents"]
    nll: Float64[np.ndarray, " documents"]  # nats, summed
    tokens: Float64[np.ndarray, " documents"]  # predicted
    top1: dict[int, Float64[np.ndarray, "documents experts"]]  # layer -> tokens counted
    slots: dict[int, Float64[np.ndarray, "documents experts"]]  # layer -> slots counted
    balance: dict[int, float]  # layer -> N sum f P over all tokens

    def bits_per_byte(self, domain: str) -> float:
        here = np.array([d == domain for d in self.domains])
        return float(self.nll[here].sum() / self.n_bytes[here].sum() / math.log(2))


@torch.no_grad()
def read(model: torch.nn.Module, texts: Texts, context: int) -> Reading:
    """Predict every document, one window at a time, counting which experts are chosen."""
    routers = Routers(model)
    domains = [name for name, docs in texts.items() for _ in docs]
    docs = [doc for group in texts.values() for doc in group]
    nll, tokens = np.zeros(len(docs)), np.zeros(len(docs))
    top1: dict[int, Any] = {}
    slots: dict[int, Any] = {}
    probability: dict[int, Any] = {}
    try:
        for d, doc in enumerate(docs):
            ids = torch.from_numpy(doc.ids.astype(np.int64))
            for start in range(0, len(ids) - 1, context):
                window = ids[start : start + context + 1]
                logits = model(input_ids=window[None, :-1], use_cache=False).logits[0]
                nll[d] += torch.nn.functional.cross_entropy(
                    logits.float(), window[1:], reduction="sum"
                ).item()
                tokens[d] += len(window) - 1
                for layer, (router, index) in routers.seen.items():
                    experts = router.shape[-1]
                    if layer not in slots:
                        top1[layer] = np.zeros((len(docs), experts))
                        slots[layer] = np.zeros((len(docs), experts))
                        probability[layer] = np.zeros(experts)
                    top1[layer][d] += np.bincount(router.argmax(-1).numpy(), minlength=experts)
                    slots[layer][d] += np.bincount(index.reshape(-1).numpy(), minlength=experts)
                    probability[layer] += router.double().softmax(-1).sum(0).numpy()
    finally:
        routers.remove()
    n_bytes = np.array([doc.n_bytes for doc in docs], dtype=np.float64)
    balance = {
        layer: float(len(p) * (slots[layer].sum(0) / slots[layer].sum()) @ (p / tokens.sum()))
        for layer, p in probability.items()
    }
    return Reading(domains, n_bytes, nll, tokens, top1, slots, balance)


def ngram_bits(model: Trigram, docs: list[TokenizedText]) -> tuple[float, float]:
    """Bits per byte of the unigram and the trigram on the targets the model is measured on."""
    grams, _ = windows([doc.ids for doc in docs])
    n_bytes = sum(doc.n_bytes for doc in docs)
    one = -np.log2(model.unigram(grams)).sum() / n_bytes
    three = -np.log2(model.trigram(grams)).sum() / n_bytes
    return float(one), float(three)


def text_read(train: Texts, run: dict[str, Any]) -> dict[str, list[Tokens]]:
    """The documents a run has read, each once, by domain: what its n-grams are fitted on."""
    ids: dict[str, list[Tokens]] = {d: [doc.ids for doc in docs] for d, docs in train.items()}
    mixture = Mixture(ids, run["seed"])
    share = run["tokens"] // len(ids)
    return {domain: mixture.beginning(domain, share) for domain in ids}


def language_figures(
    reading: Reading, texts: Texts, read: dict[str, list[Tokens]], vocabulary: int
) -> list[dict]:
    """One row a domain: bits per byte of the model and of n-grams of the text it has read.

    `trigram_domain` knows which domain it is reading: it was fitted on that domain alone.
    """
    pooled = Trigram([ids for docs in read.values() for ids in docs], vocabulary)
    rows = []
    for domain, docs in texts.items():
        unigram, trigram = ngram_bits(pooled, docs)
        row = {
            "domain": domain,
            "trained": domain in read,
            "documents": len(docs),
            "bytes": sum(doc.n_bytes for doc in docs),
            "tokens": sum(len(doc.ids) - 1 for doc in docs),
            "bits_per_byte": reading.bits_per_byte(domain),
            "unigram": unigram,
            "trigram": trigram,
        }
        if domain in read:
            row["trigram_domain"] = ngram_bits(Trigram(read[domain], vocabulary), docs)[1]
        rows.append(row)
    return rows


def routing_figures(reading: Reading, domains: Sequence[str], seed: int = 0) -> list[dict]:
    """One row a MoE layer, over the documents of `domains`."""
    here = np.array([d in domains for d in reading.domains])
    labels = [d for d in reading.domains if d in domains]
    rows = []
    for layer, slots in sorted(reading.slots.items()):
        load = utilisation(slots[here])
        share = load / load.sum()
        rows.append(
            {
                "layer": layer,
                "experts": len(load),
                "top1": asdict(dependence(reading.top1[layer][here], labels, seed=seed)),
                "topk": asdict(dependence(slots[here], labels, seed=seed)),
                "least_load": float(load.min()),
                "greatest_load": float(load.max()),
                "effective_experts": float(np.exp(-(share * np.log(share + 1e-300)).sum())),
                "balance": reading.balance[layer],
            }
        )
    return rows


def evaluate(folder: Path, corpus: Path, documents: int = 40, seed: int = 0) -> dict[str, Any]:
    """All figures of the model in `folder`, measured on `documents` test documents a domain."""
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    run = json.loads((folder / "run.json").read_text("utf-8"))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    texts = {
        domain: draw(docs, documents, seed)
        for domain, docs in document_tokens(corpus, tokenizer, "test", available(corpus)).items()
    }
    train = document_tokens(corpus, tokenizer, "train")
    reading = read(model, texts, model.config.max_position_embeddings)
    total = sum(p.numel() for p in model.parameters())
    return {
        "model": folder.name,
        "class": type(model).__name__,
        "parameters": total,
        "active_parameters": total - idle_parameters(model),
        "weights_sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        "weights_bytes": (folder / "model.safetensors").stat().st_size,
        "run": run,
        "test_corpus": json.loads((corpus / "corpus.json").read_text("utf-8"))["sha256"],
        "language": language_figures(reading, texts, text_read(train, run), len(tokenizer)),
        "routing": routing_figures(reading, TRAINING_DOMAINS),
    }


def draw(docs: list[TokenizedText], count: int, seed: int) -> list[TokenizedText]:
    """`count` documents without replacement, all if there are fewer."""
    order = np.random.default_rng(seed).permutation(len(docs))[:count]
    return [docs[i] for i in sorted(order)]


def idle_parameters(model: torch.nn.Module) -> int:
    """Parameters of routed experts that a token does not use."""
    config: Any = model.config
    idle = 1 - config.num_experts_per_tok / config.num_experts
    routed = sum(p.numel() for name, p in model.named_parameters() if ".experts." in name)
    return round(routed * idle)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m moeaudit.lab.bundled.card.evaluate", description=__doc__
    )
    parser.add_argument("folder", type=Path, help="folder of the model")
    parser.add_argument("--corpus", type=Path, required=True, help="folder made by text.build")
    parser.add_argument("--documents", type=int, default=40, help="test documents a domain")
    options = parser.parse_args(arguments)
    try:
        figures = evaluate(options.folder, options.corpus, options.documents)
        text = json.dumps(rounded(figures), indent=1, ensure_ascii=False) + "\n"
        (options.folder / "figures.json").write_text(text, "utf-8")
        (options.folder / "README.md").write_text(card(rounded(figures)), "utf-8")
    except MoeAuditError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def rounded(value: Any) -> Any:
    """Floats to five decimals, everywhere."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return round(value, 5) if isinstance(value, float) else value


if __name__ == "__main__":
    quiet()
    sys.exit(main())
