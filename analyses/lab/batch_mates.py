"""Batch mates: does what a model says of a text change with the texts beside it in the batch?

    python -m analyses.lab.batch_mates [--quick] [--out FOLDER] [--samples 4] [--tokens 24]

SegMoE's router sums its logits over all tokens of the batch and chooses once; such a block must fail the test. Every
bundled model, one block of SegMoE's rule and one of a per-token rule are put through it, with eager, batched_mm and
grouped_mm, in float32. Writes a table (CSV), a figure, index.html and result.json. A few minutes on two cores;
`--quick` (the two blocks and one model, fewer and shorter samples) well under two.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

import moeaudit as ma
from moeaudit.report.figures.profiles import profiles
from moeaudit.report.pages.tables import Column, rows_of, table

from .pages import Tables, sheet_of
from .shared import started, typed, written

LIMITS = [
    "SegMoE's own UNets are not run: its rule (segmoe 0.0.4) is put into a block of six linear experts. What is shown "
    "is that the test finds the rule, and how large its effect is there.",
    "A batch without padding is tested. Padding is another mate, and moeaudit never pads.",
    "Kernels differ between machines: the rounding stated is that of the machine the page was made on. The verdict "
    "does not rest on it, since what exceeds it is run again in float64.",
]


class SegMoEBlock(nn.Module):
    """Six linear experts, two a token: chosen once for the batch (SegMoE), or for each token."""

    def __init__(self, width: int = 64, experts: int = 6, *, pooled: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(experts))
        self.pooled = pooled

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        flat = hidden.flatten(0, -2)
        logits = self.gate(flat)
        chosen = (
            logits.sum(0).topk(2).indices.expand(len(flat), -1)
            if self.pooled
            else logits.topk(2).indices
        )
        weight = logits.gather(1, chosen).softmax(-1)
        every = torch.stack([expert(flat) for expert in self.experts], 1)
        picked = every.gather(1, chosen[..., None].expand(-1, -1, flat.shape[-1]))
        return (picked * weight[..., None]).sum(1).view_as(hidden)


def measured(samples: int, tokens: int, *, quick: bool) -> list[tuple[str, ma.causal.BatchMates]]:
    """What was found of each subject, in order."""
    found = [
        ("a router pooled over the batch (SegMoE's rule)", SegMoEBlock(pooled=True)),
        ("the same block, a router for each token", SegMoEBlock(pooled=False)),
    ]
    # A pooled choice shows only where some samples pool to another set than others; more of them cost nothing here.
    out = [(name, ma.batch_mates(block, samples=8, tokens=tokens)) for name, block in found]
    docs = ma.corpus("bundled", split="test")
    for name in ma.bundled_models()[: 1 if quick else None]:
        model = ma.load(name)
        out.append((name, ma.batch_mates(model, docs, samples=samples, tokens=tokens)))
        print(out[-1][1], flush=True)
    return out


def sentence(found: list[tuple[str, Any]], *, quick: bool) -> str:
    pooled, models = found[0][1], [each for _, each in found[2:]]
    passed = sum(each.independent is True for each in models)
    worst = max(float(each.table["output"].max()) for each in models)
    judged = {False: "fails it", True: "lets it pass", None: "does not decide"}[pooled.independent]
    start = "A try-out on short samples: b" if quick else "B"
    return (
        f"{start}eside other samples, a block with SegMoE's batch-pooled router gives outputs up to "
        f"{float(pooled.table['output'].max()):.2g} of the largest away from those alone, and the test {judged}; "
        f"{passed} of {len(models)} models with per-token routers pass in every experts implementation, with outputs "
        f"within {worst:.1e} and no selection changed beyond rounding."
    )


def write_page(path: Path, result: dict[str, Any], tables: Tables) -> Path:
    frame = tables["comparisons"]
    sheet = sheet_of("Batch mates", result)
    sheet.points(result["said"])
    whole = frame.groupby(["subject", "experts"], sort=False, as_index=False)[
        ["output", "same_output"]
    ].max()
    drawn = whole.melt(["subject", "experts"], ["output", "same_output"], "mates", "value")
    drawn["mates"] = drawn["mates"].map(
        {"output": "other samples", "same_output": "copies of itself"}
    )
    drawn["value"] = np.log10(drawn["value"].astype(float).clip(lower=1e-9))
    sheet.figure(
        profiles(
            drawn.assign(low=drawn["value"], high=drawn["value"], panel="largest difference of an output"),
            key="mates", title="How far outputs move", unit="log10 of the largest output", panel="panel",
            series="mates", along="subject", zero=False,
            caption="The sample beside others and beside copies of itself (rounding of another batch shape).",
        )
    )  # fmt: skip
    sheet.heading("Every comparison")
    sheet.table(
        table(
            rows_of(frame),
            [
                Column("subject", lambda r: r["subject"], text=True),
                Column("experts", lambda r: r["experts"], text=True),
                Column("layer", lambda r: "whole" if pd.isna(r["layer"]) else int(r["layer"])),
                Column("moved", lambda r: "not seen" if pd.isna(r["moved"]) else int(r["moved"])),
                Column("output", lambda r: f"{r['output']:.1e}"),
                Column("copies", lambda r: f"{r['same_output']:.1e}"),
                Column(
                    "float64",
                    lambda r: "" if pd.isna(r["wide_output"]) else f"{r['wide_output']:.1e}",
                ),
                Column("verdict", lambda r: r["verdict"], text=True),
            ],
            "Every comparison: the sample beside others, beside copies of itself, and beside others in float64",
        )
    )
    sheet.heading("What this cannot say")
    sheet.points(LIMITS)
    return sheet.write(path)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("reports/lab/batch-mates"))
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--quick", action="store_true", help="one model, short samples")
    return started("batch_mates", run, parser.parse_args(argv))


def run(given: argparse.Namespace) -> None:
    if given.quick:
        given.samples, given.tokens = 2, 8
    found = measured(given.samples, given.tokens, quick=given.quick)
    frame = pd.concat([each.table.assign(subject=name) for name, each in found], ignore_index=True)
    result = {
        "sentence": sentence(found, quick=given.quick),
        "command": typed("batch_mates", given),
        "quick": given.quick,
        "said": [repr(each) for _, each in found],
        "independent": {name: each.independent for name, each in found},
    }
    written(given, result, {"comparisons": frame}, write_page)


if __name__ == "__main__":
    sys.exit(main())
