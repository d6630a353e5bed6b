"""Expert Tying: what does sharing experts between layers cost, and what is a shared expert to each of its layers?

    python -m analyses.lab.expert_tying [--quick] [--pool FOLDER] [--out FOLDER]

Small OLMoEs with experts of layers 1-2 and 3-4 shared (`olmoe-tied`), against the same model untied (`olmoe`), with
half the experts (`olmoe-half`), and at exactly equal unique parameters (`olmoe-tied-wide`: 24 shared experts have the
bytes of `olmoe`'s 16). The same tokens in the same order for a seed; intervals over seeds. Then the audit of the tied
models: an expert removed at one site and in the whole bank, agreement of the sites' choices on their way and at the
same input, dead experts by bank; `olmoe` with the same layers named is the control that shares nothing.
Writes models.csv, arms.csv, differences.csv, additivity.csv, agreement.csv, result.json and index.html.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd

import moeaudit as ma

from ..shared import against, options, over_seeds, pool_of, settled, started, texts, typed, written
from . import measure
from .page import sentence, write_page

ARMS = ("olmoe", "olmoe-half", "olmoe-tied", "olmoe-tied-sqrt", "olmoe-tied-wide")
AUDITED = ("olmoe", "olmoe-tied", "olmoe-tied-wide")
BASES = ("olmoe", "olmoe-half")
SIZES = ("nll", "unique", "bytes", "expert_parameters")


def expert_parameters(model: ma.Model) -> int:
    """Numbers in the routed experts, each counted once."""
    found = {id(p): p.numel() for layer in model.anatomy.layers for p in layer.experts.parameters()}
    return sum(found.values())


def main(argv: list[str] | None = None) -> int:
    parser = options((__doc__ or "").split("\n")[0], "reports/lab/expert-tying", 3, 64)
    given = settled(parser.parse_args(argv))
    return started("expert_tying", run, given)


def run(given: Any) -> None:
    pool = pool_of(given, ARMS)
    rows, sites, alike, checks = [], [], [], []
    told = pool.models.set_index(["arm", "seed"])
    for arm in ARMS:
        for seed in pool.seeds:
            folder = Path(pool.get(arm, seed))
            model = ma.load(folder)
            row = {"arm": arm, "seed": seed, "nll": float(told.loc[(arm, seed), "nll"])}
            row["unique"] = model.provenance["parameters"]
            row["expert_parameters"] = expert_parameters(model)
            row["bytes"] = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
            if arm in AUDITED:
                docs = texts(model, given.documents, given.tokens)
                groups = model.anatomy.tied or tuple((i, i + 1) for i in (1, 3))
                found, check = measure.additivity(model, docs, groups)
                sites.append(found.assign(arm=arm, seed=seed))
                checks.append(check)
                alike.append(
                    {"arm": arm, "seed": seed}
                    | measure.agreement(model, docs, groups)
                    | measure.load(model, docs, groups)
                )
                if not model.anatomy.tied:
                    row |= measure.merged(model, docs, groups)
            rows.append(row)
            print(
                f"{arm}, seed {seed}: {row['nll']:.4f} nats, {row['unique']:,} parameters",
                flush=True,
            )
    models, choices = pd.DataFrame(rows), pd.DataFrame(alike)
    additive = pd.concat(sites, ignore_index=True)
    tables = {
        "models": models,
        "arms": over_seeds(models, ["arm"], SIZES),
        "differences": pd.concat([against(models, base) for base in BASES], ignore_index=True),
        "additivity": over_seeds(additive, ["arm", "sites"], ["whole", "sum", "gap", "share"]),
        "agreement": over_seeds(choices, ["arm"], [c for c in choices if c not in ("arm", "seed")]),
        "merged_after_training": over_seeds(
            models[models["arm"] == "olmoe"], ["arm"], ["post_hoc_mean", "post_hoc_leader"]
        ),
    }
    command = typed("expert_tying", given)
    result = {
        "system": "Expert Tying",
        "paper": "arXiv 2606.16825",
        "command": command,
        "quick": given.quick,
        "seeds": list(pool.seeds),
        "documents_of_a_domain": given.documents,
        "tokens_of_a_document": given.tokens,
        "verified": checks,
        "sentence": sentence(tables, quick=given.quick),
    }
    written(given, result, tables, write_page)


if __name__ == "__main__":
    sys.exit(main())
