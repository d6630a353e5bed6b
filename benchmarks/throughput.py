"""How much of a plain forward's speed the census keeps, on the same machine at the same time.

    python benchmarks/throughput.py                       # the bundled models and a mid-size one
    python benchmarks/throughput.py --parts --out docs/measured/throughput.json    # and where its time goes

Efficiency is (FLOPs that the census needs) / its time over (FLOPs of plain forwards of a batch) / their
time. FLOPs are counted from the matrices (`flops.py`); pass-through rows, births and whatever else the
census does besides count as loss, and *at most* is what the first two alone would leave. Both take
turns on documents of one length, the forward on about 2,048 tokens of them at once, the census on up to four in one
call, so that other work on the machine slows both alike; the median of the rounds' ratios is the result.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also as a script of its own

import moeaudit as ma  # noqa: E402
from benchmarks.flops import Flops  # noqa: E402
from benchmarks.parts import parts  # noqa: E402
from moeaudit.store.files import write_text  # noqa: E402

BATCH = 2048  # tokens of a plain forward
TEXTS = 4  # of a census, unless fewer make a batch
MODELS = ("tiny-olmoe", "tiny-qwen2-moe", "tiny-deepseek-v2", "mid-olmoe")
# Between the bundled models and OLMoE-1B-7B: a quarter of its width and depth, a vocabulary of 16k.
MID: dict[str, Any] = dict(
    vocab_size=16384, hidden_size=512, intermediate_size=256, num_hidden_layers=4,
    num_attention_heads=8, num_key_value_heads=8, num_experts=32, num_experts_per_tok=8,
    norm_topk_prob=False, max_position_embeddings=1024, pad_token_id=None, bos_token_id=None,
    eos_token_id=None, tie_word_embeddings=False,
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """One line: seconds of one document, and efficiency by rounds."""

    model: str
    tokens: int
    removals: int
    census: float
    forward: float
    rounds: tuple[float, ...]
    most: float  # the efficiency if pass-through rows and births were the only loss

    @property
    def efficiency(self) -> float:
        return statistics.median(self.rounds)

    @property
    def line(self) -> str:
        return (
            f"| {self.model} | {self.tokens} | {self.removals:,} | {self.census:.3f} "
            f"| {self.removals / self.census:,.0f} "
            f"| {self.efficiency:.2f} ({min(self.rounds):.2f} to {max(self.rounds):.2f}) | {self.most:.2f} |"
        )

    @property
    def record(self) -> dict[str, float]:
        return {
            "tokens": self.tokens,
            "removals": self.removals,
            "census_s": round(self.census, 4),
            "removals_per_s": round(self.removals / self.census),
            "efficiency": round(self.efficiency, 3),
            "least": round(min(self.rounds), 3),
            "largest": round(max(self.rounds), 3),
            "at_most": round(self.most, 3),
        }


def load(name: str) -> ma.Model:
    """A bundled model, or the mid-size one with random weights."""
    if name != "mid-olmoe":
        return ma.load(name)
    from transformers import OlmoeConfig, OlmoeForCausalLM

    torch.manual_seed(0)
    model = ma.load(OlmoeForCausalLM(OlmoeConfig(**MID)).eval())
    model.name = name
    return model


def clock(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def documents(model: ma.Model, tokens: int) -> torch.Tensor:
    """A batch of about 2,048 tokens, `"documents tokens"`."""
    shape = (max(1, BATCH // tokens), tokens)
    return torch.from_numpy(np.random.default_rng(0).integers(0, model.vocab_size, shape))


def measure(model: ma.Model, tokens: int, rounds: int) -> Result:
    """Efficiency on documents of random ids; seconds are those of one document."""
    batch = documents(model, tokens)
    texts = list(batch[:TEXTS])

    @torch.no_grad()
    def forward() -> None:
        model.hf(input_ids=batch, use_cache=False)

    need = Flops.of(model, tokens)
    effects = ma.ablate(model, texts)  # finds the engine, warms up
    forward()
    census, plain, ratios = [], [], []
    for _ in range(rounds):
        before = clock(forward)
        took = clock(lambda: ma.ablate(model, texts)) / len(texts)
        each = (before + clock(forward)) / 2 / len(batch)
        census.append(took)
        plain.append(each)
        ratios.append((need.census / took) / (need.forward / each))
    return Result(
        model.name,
        tokens,
        len(effects) // len(texts),
        statistics.median(census),
        statistics.median(plain),
        tuple(ratios),
        need.census / need.walk,
    )


HEADER = (
    "| model | tokens | removals | census, s | removals a second | efficiency (rounds) | at most |\n"
    "|---|---|---|---|---|---|---|"
)


def main(arguments: list[str] | None = None) -> list[Result]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--tokens", nargs="+", type=int, default=[64, 128, 256, 512])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    parser.add_argument("--parts", action="store_true", help="also say where a census's time goes")
    options = parser.parse_args(arguments)
    load_before = os.getloadavg()[0]
    threads, cores = torch.get_num_threads(), os.cpu_count()
    print(f"{threads} thread(s) on {cores} cores, load {load_before:.1f} at the start\n")
    print(HEADER, flush=True)
    results, told = [], {}
    for name in options.models:
        model = load(name)
        for tokens in options.tokens:
            results.append(measure(model, tokens, options.rounds))
            print(results[-1].line, flush=True)
            if options.parts:
                texts = list(documents(model, tokens)[:TEXTS])
                told[name, tokens] = parts(model, texts, min(2, options.rounds))
    for (name, tokens), found in told.items():
        print(f"{name}, {tokens} tokens, ms:", ", ".join(f"{k} {v:.1f}" for k, v in found.items()))
    if options.out is not None:
        found: dict[str, dict[str, Any]] = {}
        for each in results:
            found.setdefault(each.model, {})[str(each.tokens)] = each.record
        for (name, tokens), by_part in told.items():
            found[name][str(tokens)]["parts_ms"] = by_part
        record = {
            "command": shlex.join(
                [
                    "python",
                    "benchmarks/throughput.py",
                    *(sys.argv[1:] if arguments is None else arguments),
                ]
            ),
            "threads": threads,
            "cores": cores,
            "load": round(load_before, 1),
            "rounds": options.rounds,
            "results": found,
        }
        write_text(options.out, json.dumps(record, indent=1) + "\n")
    return results


if __name__ == "__main__":
    main()
