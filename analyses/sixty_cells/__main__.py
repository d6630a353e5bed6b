"""The published table of arXiv 2606.10703, four metrics by five layers a model, as an exact token-level census.

    python -m analyses.sixty_cells --model allenai/OLMoE-1B-7B-0924 Qwen/Qwen1.5-MoE-A2.7B \
        deepseek-ai/DeepSeek-V2-Lite --text DIR_OR_FILE.jsonl --out DIR

First the plan of every model is printed (from configurations, no weights), then the models are audited one
after the other, each in a run folder under `--out`; the same command continues where it was stopped.
Written: cells.csv and cells.parquet (one row per model, outcome, metric and layer: this suite's statistics
beside the published recipe's), summary.csv, page.html. `--plan-only` stops after the plan. `--null` says
that the models hold random weights (benchmarks/full_size writes such checkpoints of the real sizes), so
that every claim is a false one.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import pandas as pd
from rich.console import Console

import moeaudit as ma
from moeaudit.cli.options import default_out
from moeaudit.cli.terminal.progress import ConsoleProgress
from moeaudit.errors import InputError, MoeAuditError
from moeaudit.models.accounting.config import config_of
from moeaudit.models.accounting.shapes import shapes_of
from moeaudit.runs.costs import Cost, cost
from moeaudit.store.files import write_table

from .cells import METRICS, OUTCOMES, cells_of, published_layers, summary_of
from .page import write_page

MODELS = ("tiny-olmoe", "tiny-qwen2-moe", "tiny-deepseek-v2")


def folders(models: list[str], out: Path) -> dict[str, Path]:
    """The run folder of each model. Raises InputError where two would share one."""
    found: dict[str, Path] = {}
    for model in models:
        place = out / "runs" / default_out(model).name
        if place in found.values():
            raise InputError(
                f"Two of the models would be audited into {place}: {', '.join(models)}. Name each model once; "
                "folders need different last names."
            )
        found[model] = place
    return found


def planned(options: argparse.Namespace) -> dict[str, Cost]:
    """What each model costs, printed as it is found."""
    out: dict[str, Cost] = {}
    for model in options.model:
        layers = published_layers([moe.index for moe in shapes_of(config_of(model)).moe])
        found = cost(
            model,
            options.text,
            layers=layers,
            documents=options.documents,
            tokens=options.tokens,
            metrics=METRICS,
            sesoi=options.sesoi,
            seed=options.seed,
            device=options.device,
            dtype=options.dtype,
            machine=options.machine,
            max_memory=options.max_memory,
            offload=options.offload,
        )
        out[model] = found
        cells = len(METRICS) * len(layers)
        sys.stdout.write(f"{found}\nCells: {len(METRICS)} metrics x layers {layers} = {cells}\n\n")
    total = sum(each.seconds for each in out.values())
    n = sum(len(METRICS) * len(each.layers) for each in out.values())
    sys.stdout.write(f"In all: {n} cells, about {total / 3600:.1f} h\n")
    return out


def audited(options: argparse.Namespace, plans: dict[str, Cost]) -> list[ma.Run]:
    """The runs, one model after the other; what is finished is read back."""
    runs = []
    for model, folder in folders(options.model, options.out).items():
        with ConsoleProgress(Console(stderr=True)) as progress:
            progress.note(f"{model}: {folder}")
            runs.append(
                ma.audit(
                    model,
                    options.text,
                    out=folder,
                    layers=list(plans[model].layers),
                    outcome=OUTCOMES,
                    metrics=METRICS,
                    documents=options.documents,
                    tokens=options.tokens,
                    sesoi=options.sesoi,
                    seed=options.seed,
                    device=options.device,
                    dtype=options.dtype,
                    max_memory=options.max_memory,
                    offload=options.offload,
                    progress=progress,
                )
            )
        if (alarm := runs[-1].alarm) is not None:
            raise InputError(f"{model}: {alarm}")
    return runs


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", nargs="+", default=list(MODELS), help="hub ids, folders, names")
    parser.add_argument("--text", help="folder or .jsonl file (default: the bundled corpus)")
    parser.add_argument("--documents", type=int, default=160)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--sesoi", type=float, default=0.1, help="smallest d_z of interest")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    parser.add_argument("--max-memory", help="the most memory for weights, such as 6GiB")
    parser.add_argument("--offload", choices=("auto", "stream"), default="auto")
    parser.add_argument("--machine", help="plan for a stated machine, such as h100")
    parser.add_argument("--plan-only", action="store_true")
    parser.add_argument("--null", action="store_true", help="the weights are random")
    options = parser.parse_args(arguments)
    try:
        folders(options.model, options.out)
        plans = planned(options)
        if options.plan_only:
            return 0
        runs = audited(options, plans)
    except MoeAuditError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(
            f"Interrupted. What is done is kept in {options.out}; the same command goes on.\n"
        )
        return 130
    cells = pd.concat([cells_of(run, options.seed) for run in runs], ignore_index=True)
    summary = summary_of(cells)
    write_table(options.out / "cells.parquet", cells)
    cells.to_csv(options.out / "cells.csv", index=False)
    summary.to_csv(options.out / "summary.csv", index=False)
    typed = sys.argv[1:] if arguments is None else arguments
    command = f"python -m analyses.sixty_cells {shlex.join(typed)}"
    facts = [f"{run!r}".partition(" Tables:")[0] for run in runs]
    page = write_page(options.out / "page.html", cells, summary, facts, command, options.null)
    sys.stdout.write(summary.round(3).to_string(index=False) + f"\n{page}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
