"""Does the criterion matter when experts are pruned, and does that depend on depth?

    python analyses/pruning_interchangeability.py --out DIR [--model NAME ...]

Early, middle and late thirds of the MoE layers are pruned apart, by every criterion and at random.
If early layers are so redundant that any criterion will do there, the criteria's spread is small in
the early third beside that of as many random draws, and their pairwise differences lie inside
+-margin; see docs/methods/pruning.md. Writes for each model costs.csv, band.csv, pairs.csv,
interchangeability.csv, scores.csv and a page, and one table over all models.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import pandas as pd

import moeaudit as ma
from moeaudit.errors import InputError, MoeAuditError
from moeaudit.text import TokenizedCorpus
from moeaudit.text.choice import beginnings
from moeaudit.text.for_model import tokens_for

DEPTHS = ("all", "early", "middle", "late")


def texts(model: ma.Model, split: str, per_domain: int, tokens: int) -> TokenizedCorpus:
    """The first `tokens` tokens of `per_domain` documents of each domain of a bundled split."""
    docs = ma.corpus("bundled", split=split).sample(per_domain, seed=0, per_domain=True)
    return beginnings(tokens_for(model, docs), tokens)[0]


def analyse(name: str, options: argparse.Namespace) -> pd.DataFrame:
    """One model: its tables and its page in a folder of its own; returns the summary."""
    model = ma.load(name)
    started = time.monotonic()
    curve = ma.prune_curve(
        model,
        texts(model, "test", options.documents, options.tokens),
        keep=options.keep,
        calibration=texts(model, "calibration", options.calibration, options.tokens),
        scope=options.scope,
        layers=DEPTHS,
        draws=options.draws,
        seed=options.seed,
        margin=options.margin,
    )
    folder = options.out / model.name
    folder.mkdir(parents=True, exist_ok=True)
    summary = curve.interchangeability()
    tables = {
        "costs": curve.table,
        "band": curve.band(),
        "pairs": curve.pairs(),
        "interchangeability": summary,
        "scores": curve.scores,
    }
    for table, frame in tables.items():
        frame.to_csv(folder / f"{table}.csv", index=False)
    curve.report(folder / "pruning.html")
    facts = {"model": repr(curve), "notes": curve.notes, "clean_nll": curve.clean_nll}
    facts |= {"seconds": round(time.monotonic() - started, 1), "margin": options.margin}
    (folder / "facts.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    summary.insert(0, "model", model.name)
    print(curve)
    print(summary.to_string(index=False, float_format=lambda v: f"{v:.4f}"))
    print()
    return summary


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for tables and pages")
    parser.add_argument("--model", nargs="+", help="models (default: all bundled ones)")
    parser.add_argument("--documents", type=int, default=6, help="evaluated, of each domain")
    parser.add_argument(
        "--calibration", type=int, default=6, help="for the criteria, of each domain"
    )
    parser.add_argument("--tokens", type=int, default=128, help="read of each document")
    parser.add_argument("--keep", type=float, nargs="+", default=[0.875, 0.75, 0.5])
    parser.add_argument("--scope", nargs="+", default=["layer"], help="layer, global or both")
    parser.add_argument("--draws", type=int, default=20, help="random models for each cell")
    parser.add_argument("--margin", type=float, default=0.01, help="nats; smaller does not matter")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        if options.tokens < 2 or options.documents < 1 or options.calibration < 1:
            raise InputError(
                "--tokens must be 2 or more, --documents and --calibration 1 or more, so that there is "
                "something to predict on both sides."
            )
        options.out.mkdir(parents=True, exist_ok=True)
        every = [analyse(name, options) for name in options.model or ma.bundled_models()]
    except MoeAuditError as error:
        print(f"pruning_interchangeability: {error}", file=sys.stderr)
        return 2
    pd.concat(every, ignore_index=True).to_csv(options.out / "summary.csv", index=False)
    print(f"Tables and pages: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
