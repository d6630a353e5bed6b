"""Zero experts: can a trained router learn to send half its picks to nobody, and are those the harmless ones?

    python -m analyses.lab.zero_experts [--quick] [--pool FOLDER] [--out FOLDER]

To each `olmoe` of the pool (one a seed) zero experts are added, half as many as there are experts, and the frozen
original teaches it in two stages: text sampled from itself, then the reverse KL on text that the student samples.
Beside it a static control, half the top-k for every token, taught the same way. Loss on held-out documents, zero share
by layer and kind of token, FLOPs saved; and the link: within a document, is a token's share of zero picks correlated
with what the exact census of the original says of removing its experts? Intervals over seeds; in a seed by document.
Writes models.csv, arms.csv, losses.csv, shares.csv, links.csv, log.csv, result.json and index.html.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import Any

import pandas as pd

import moeaudit as ma
from moeaudit.lab import zero

from ..shared import options, over_seeds, pool_of, settled, started, texts, typed, written
from . import measure
from .page import sentences, write_page

QUICK = zero.Distillation(sft_steps=6, policy_steps=2, texts=16, rows=4, length=24, prompt=8)


def main(argv: list[str] | None = None) -> int:
    parser = options((__doc__ or "").split("\n")[0], "reports/lab/zero-experts", 4, 64)
    parser.add_argument("--zero", type=int, default=None, help="zero experts (default: half)")
    parser.add_argument("--sft-steps", type=int, default=300)
    parser.add_argument("--policy-steps", type=int, default=60)
    given = settled(parser.parse_args(argv))
    return started("zero_experts", run, given)


def run(given: Any) -> None:
    start = time.time()
    how = QUICK if given.quick else zero.Distillation(
        sft_steps=given.sft_steps, policy_steps=given.policy_steps
    )  # fmt: skip
    pool = pool_of(given, ["olmoe"])
    rows, parts = [], {"losses": [], "shares": [], "links": [], "log": []}
    for seed in pool.seeds:
        model = ma.load(pool.get("olmoe", seed))
        docs = texts(model, given.documents, given.tokens)
        count = given.zero or model.anatomy.layers[0].num_experts // 2
        found = measure.one(model, docs, count, replace(how, seed=seed))
        rows.append({"arm": "olmoe", "seed": seed, "count": count} | found["row"])
        for name, kept in parts.items():
            kept.append(found[name].assign(seed=seed))
        row = rows[-1]
        print(
            f"seed {seed}: zero share {row['zero_share']:.3f}, loss {row['nll, original']:.4f} -> "
            f"{row['nll, zero']:.4f} (half: {row['nll, half']:.4f}), rho of KL {row.get('rho, kl', float('nan')):+.3f}",
            flush=True,
        )
    models = pd.DataFrame(rows)
    values = [name for name in models if name not in ("arm", "seed", "count")]
    tables = {name: pd.concat(kept, ignore_index=True) for name, kept in parts.items()}
    tables |= {"models": models, "arms": over_seeds(models, ["arm"], values)}
    result = {
        "system": "ZEDA, zero experts by self-distillation",
        "paper": "arXiv 2605.18643",
        "command": typed("zero_experts", given),
        "quick": given.quick,
        "seeds": list(pool.seeds),
        "zero_experts": int(models["count"].iloc[0]),
        "target_share": zero.target_share(
            ma.load(pool.get("olmoe", pool.seeds[0])).anatomy.layers[0].num_experts,
            int(models["count"].iloc[0]),
            how.weight,
        ),
        "distillation": how.__dict__,
        "documents_of_a_domain": given.documents,
        "tokens_of_a_document": given.tokens,
        "minutes": round((time.time() - start) / 60, 1),
    }
    result["sentences"] = sentences(tables, result)
    written(given, result, tables, write_page)


if __name__ == "__main__":
    sys.exit(main())
