"""Load balance by scope: what does each leave of specialisation, in routing and in what experts do?

    python -m analyses.lab.load_balance [--quick] [--pool FOLDER] [--out FOLDER]

The same small OLMoE trained with the balance loss over the whole step (`olmoe`), within groups of rows of one domain
(`olmoe-micro`), within each row (`olmoe-sequence`), with none (`olmoe-none`), and with the paper's decisive control
(`olmoe-shuffled`): groups of the same size whose tokens are dealt at random. Same tokens in the same order for a seed;
intervals over seeds. Loss, separation of domains with a null by document, and from a census on some documents of each
domain: whether effects are as separate as routing is, and whether an expert's removal costs more where it is used more.
Writes models.csv, arms.csv, differences.csv, result.json and index.html.
"""

from __future__ import annotations

import sys
from typing import Any

import pandas as pd

import moeaudit as ma

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

ARMS = ("olmoe", "olmoe-micro", "olmoe-sequence", "olmoe-shuffled", "olmoe-none")


def main(argv: list[str] | None = None) -> int:
    parser = options((__doc__ or "").split("\n")[0], "reports/lab/load-balance", 4, 64)
    given = settled(parser.parse_args(argv))
    if given.quick:
        given.documents = 2  # separation needs more documents than domains
    return started("load_balance", run, given)


def run(given: Any) -> None:
    pool = pool_of(given, ARMS)
    told = pool.models.set_index(["arm", "seed"])
    rows, checks = [], []
    for arm in ARMS:
        for seed in pool.seeds:
            model = ma.load(pool.get(arm, seed))
            docs = texts(model, given.documents, given.tokens)
            trace = ma.capture(model, docs, progress=False)
            effects = ma.ablate(model, docs, progress=False)
            checks.append(require_agrees(ma.verify(effects, model, n=4, progress=False)))
            nll = float(told.loc[(arm, seed), "nll"])
            row = {"arm": arm, "seed": seed, "nll": nll} | measure.routing(trace)
            rows.append(row | measure.causal(effects, trace))
            print(
                f"{arm}, seed {seed}: {nll:.4f} nats, separation {row['separation']:.3f}",
                flush=True,
            )
    models = pd.DataFrame(rows)
    values = [name for name in models if name not in ("arm", "seed")]
    tables = {
        "models": models,
        "arms": over_seeds(models, ["arm"], values),
        "differences": pd.concat(
            [
                against(models, base, value).assign(of=value)
                for base in ("olmoe", "olmoe-micro")
                for value in ("nll", "separation", "slots_excess", "kl_excess")
            ],
            ignore_index=True,
        ),
    }
    result = {
        "system": "Global-batch load balance",
        "paper": "arXiv 2501.11873",
        "command": typed("load_balance", given),
        "quick": given.quick,
        "seeds": list(pool.seeds),
        "documents_of_a_domain": given.documents,
        "tokens_of_a_document": given.tokens,
        "verified": checks,
        "sentences": sentences(tables, quick=given.quick),
    }
    written(given, result, tables, write_page)


if __name__ == "__main__":
    sys.exit(main())
