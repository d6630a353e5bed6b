"""Upcycling: does a mixture made of copies differ from the dense model, and do its experts come to differ?

    python -m analyses.lab.upcycling [--quick] [--out FOLDER] [--seeds 3] [--documents 2] [--tokens 48]

For each seed a small dense Llama is trained on one half of the bundled documents and upcycled. Before any training the
function must be the same, and any expert in any other's place must change nothing: the planted truth. Then four
mixtures and the dense model itself are trained on, on the same tokens of the other half, in the same layers' MLPs
alone: a k-means router, one with a single active expert (the dense model's operations), a random router, and a k-means
router over half re-initialised experts.
Writes tables (CSV), result.json and index.html. About half an hour on two cores; `--quick` about a minute.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from ..shared import started, typed, written
from .arms import ARMS, Plan, prepared, trained
from .measure import before_training, by_arm, of_model
from .page import sentence, write_page


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("reports/lab/upcycling"))
    parser.add_argument("--seeds", type=int, default=3, help="dense models (default 3)")
    parser.add_argument("--documents", type=int, default=2, help="of each domain (default 2)")
    parser.add_argument("--tokens", type=int, default=48, help="first ones of each (default 48)")
    parser.add_argument("--quick", action="store_true", help="a dozen steps: machinery alone")
    return started("upcycling", run, parser.parse_args(argv))


def run(given: argparse.Namespace) -> None:
    plan = Plan()
    if given.quick:
        given.seeds, given.documents, given.tokens, plan = 2, 1, 12, Plan.quick()
    oracle, models = [], []
    for seed in range(given.seeds):
        dense, documents = prepared(plan, seed)
        oracle += before_training(dense, plan, seed, given.documents, given.tokens)
        for arm in ARMS:
            model, curve = trained(dense, arm, plan, seed, documents)
            found = of_model(model, arm, seed, given.documents, given.tokens)
            models.append(found | {"train_nll": float(curve.nll.tail(10).mean())})
            print(f"seed {seed}, {arm}: {found['nll']:.4f} nats", flush=True)
    tables = {"oracle": pd.DataFrame(oracle), "models": pd.DataFrame(models)}
    tables |= by_arm(tables["models"])
    result = {
        "sentence": sentence(tables, quick=given.quick),
        "command": typed("upcycling", given),
        "quick": given.quick,
        "seeds": given.seeds,
    }
    written(given, result, tables, write_page)


if __name__ == "__main__":
    sys.exit(main())
