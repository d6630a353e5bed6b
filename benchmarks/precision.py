"""What half precision does to effects: each bundled model in float32, bfloat16 and float16, cell by cell.

    python benchmarks/precision.py                  # the bundled models
    python benchmarks/precision.py FOLDER           # a checkpoint of one's own

The same documents are censused in each precision. *Rounding* is the drift, as a page states it: how far rows without
an edit end from the clean forward, at most. *Off* is the median difference of an effect from its value in float32.
*Above* is the share of effects that are larger than that typical rounding of an effect. A layer's matrix
products are timed in each precision, since the fastest one of a device that keeps the effects is what is wanted.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch

import moeaudit as ma
from moeaudit.models.precision.chosen import choose_kind

DTYPES = ("float32", "bfloat16", "float16")


def products(model: ma.Model, rows: int = 256) -> float:
    """Seconds of `rows` tokens through the largest plain matrix of a decoder layer, the best of five."""
    matrices = [p for p in model.anatomy.decoder_layers[-1].parameters() if p.dim() == 2]
    weight = max(matrices, key=lambda p: p.numel()).detach()
    tokens = torch.randn(rows, weight.shape[1], dtype=weight.dtype)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        torch.mm(tokens, weight.T)
        best = min(best, time.perf_counter() - start)
    return best


def measured(name: str, documents: int, tokens: int) -> list[str]:
    """One line of a table for each precision."""
    lines, reference = [], None
    for dtype in DTYPES:
        model = ma.load(name, dtype=dtype)
        generator = torch.Generator().manual_seed(0)
        docs = [
            torch.randint(16, model.vocab_size, (tokens,), generator=generator)
            for _ in range(documents)
        ]
        start = time.perf_counter()
        effects: Any = ma.ablate(model, docs)
        seconds = time.perf_counter() - start
        keyed = effects.set_index(["document", "position", "layer", "expert"])["delta_nll"]
        reference = keyed if reference is None else reference
        both = reference.to_frame("full").join(keyed.to_frame("half"), how="inner")
        full, half = both["full"].to_numpy(), both["half"].to_numpy()
        off = float(np.median(np.abs(half - full)))
        limit = off if dtype != "float32" else effects.drift
        above = float((np.abs(full) > limit).mean())
        lines.append(
            f"| {name} | {dtype} | {effects.engine.split(' (')[0]} | {effects.drift:.1e} | {off:.1e} | {above:.0%} | "
            f"{float(np.median(np.abs(full))):.1e} | {seconds:.1f} | {1e6 * products(model):.0f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", nargs="*", default=ma.bundled_models())
    parser.add_argument("--documents", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=48)
    args = parser.parse_args()
    print(
        "| model | computed in | engine | rounding (nats) | off (nats, median) | above | median effect | "
        "seconds | a product (us) |"
    )
    print("|---|---|---|---:|---:|---:|---:|---:|---:|")
    for name in args.model:
        for line in measured(name, args.documents, args.tokens):
            print(line, flush=True)
    print(
        "\nWhat a checkpoint of each in bfloat16 is computed in on this device, as measured when it is loaded:\n"
    )
    for name in args.model:
        print(f"- {name}: {choose_kind(ma.load(name, dtype='bfloat16'))}", flush=True)


if __name__ == "__main__":
    main()
