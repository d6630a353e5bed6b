"""EMO: do documents use few experts, and does training with document pools make experts that can be kept apart?

    python -m analyses.lab.emo [--quick] [--model NAME] [--pool FOLDER] [--out FOLDER]

On a model that is there (`--model`, default tiny-olmoe): the document-pool mask at every size beside random pools of
the same size and one pool for all documents; retention curves by router mean (of the whole model, and layer after
layer), EASY-EP and causal harm with a random band; four scores of modularity, each with a null of documents that trade
labels. On the pool's `olmoe` and `olmoe-emo`, the same, and the differences of the two at the same seed with intervals
over seeds. Writes pools.csv, retention.csv, modularity.csv, models.csv, arms.csv, differences.csv, result.json and
index.html.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import pandas as pd

import moeaudit as ma
from moeaudit.text.choice import beginnings
from moeaudit.text.for_model import tokens_for

from ..shared import (
    against,
    options,
    over_seeds,
    pool_of,
    require_agrees,
    settled,
    started,
    texts,
    typed,
    written,
)
from . import measure
from .page import sentences, write_page

ARMS = ("olmoe", "olmoe-emo")


def main(argv: list[str] | None = None) -> int:
    parser = options((__doc__ or "").split("\n")[0], "reports/lab/emo", 4, 96)
    parser.add_argument("--model", default="tiny-olmoe", help="for the parts that need no training")
    parser.add_argument("--draws", type=int, default=20, help="random choices (default 20)")
    parser.add_argument("--no-training", action="store_true", help="leave the trained pool out")
    given = settled(parser.parse_args(argv))
    given.permutations, given.random_pools, given.clusters, given.first = 199, 3, 32, 64
    if given.quick:
        given.documents, given.draws, given.random_pools = 2, 2, 1
        given.permutations, given.clusters, given.first = 19, 8, 8
    return started("emo", run, given)


def elsewhere(model: ma.Model, documents: int, tokens: int) -> Any:
    """Documents that selectors see: of the calibration split, as many a domain."""
    corpus = ma.corpus("bundled", split="calibration").sample(documents, seed=0, per_domain=True)
    return beginnings(tokens_for(model, corpus), tokens)[0]


def measured(model: ma.Model, given: Any) -> dict[str, Any]:
    docs = texts(model, given.documents, given.tokens)
    other = elsewhere(model, given.documents, given.tokens)
    whole = measure.sizes_of(model)[0]
    same = ma.ablate(model, docs, ma.DocumentPool(whole), progress=False)
    half = ma.ablate(model, docs, ma.DocumentPool(measure.sizes_of(model)[1]), progress=False)
    verified = require_agrees(ma.verify(half, model, n=4, progress=False))
    kept, notes = measure.retention(model, docs, other, given.draws)
    return {
        "pools": measure.pools(model, docs, other, given.random_pools),
        "retention": kept,
        "modularity": measure.modular(model, docs, given.permutations, given.clusters, given.first),
        "all_experts": float(same["delta_nll"].abs().max()),
        "verified": verified,
        "notes": notes,
    }


def run(given: Any) -> None:
    start, found = time.time(), {}
    labels: list[tuple[str, str, int]] = []
    rows: list[dict[str, Any]] = []
    if given.model:
        found[given.model] = measured(ma.load(given.model), given)
        labels.append((given.model, given.model, -1))
        print(f"{given.model}: done in {time.time() - start:.0f} s", flush=True)
    if not given.no_training:
        pool = pool_of(given, ARMS)
        told = pool.models.set_index(["arm", "seed"])
        for arm in ARMS:
            for seed in pool.seeds:
                name = f"{arm}, seed {seed}"
                found[name] = measured(ma.load(pool.get(arm, seed)), given)
                labels.append((name, arm, seed))
                part = found[name]
                rows.append(
                    {"arm": arm, "seed": seed, "nll": float(told.loc[(arm, seed), "nll"])}
                    | measure.row(part["pools"], part["retention"], part["modularity"])
                )
                print(f"{name}: {rows[-1]['nll']:.4f} nats", flush=True)
    tables = {
        kind: pd.concat(
            [found[name][kind].assign(model=name, arm=arm, seed=s) for name, arm, s in labels],
            ignore_index=True,
        )
        for kind in ("pools", "retention", "modularity")
    }
    if rows:
        models = pd.DataFrame(rows)
        values = [name for name in models if name not in ("arm", "seed")]
        tables |= {
            "models": models,
            "arms": over_seeds(models, ["arm"], values),
            "differences": pd.concat(
                [against(models, "olmoe", value).assign(of=value) for value in values],
                ignore_index=True,
            ),
        }
    result = {
        "system": "EMO",
        "paper": "arXiv 2605.06663",
        "command": typed("emo", given),
        "quick": given.quick,
        "seeds": given.seeds,
        "documents_of_a_domain": given.documents,
        "tokens_of_a_document": given.tokens,
        "minutes": round((time.time() - start) / 60, 1),
        "largest_change_by_a_pool_of_all_experts": {k: v["all_experts"] for k, v in found.items()},
        "verified": {k: v["verified"] for k, v in found.items()},
        "notes": sorted({note for each in found.values() for note in each["notes"]}),
    }
    result["sentences"] = sentences(tables, given.model, quick=given.quick)
    written(given, result, tables, write_page)


if __name__ == "__main__":
    sys.exit(main())
