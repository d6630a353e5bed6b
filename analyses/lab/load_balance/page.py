"""The page of analyses/lab/load_balance: the answer, losses, separation in routing and in effects, limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from moeaudit.report.figures.profiles import profiles
from moeaudit.report.pages.tables import Column, rows_of, table

from ..pages import Tables, change, losses, of, said, sheet_of

LIMITS = [
    "A step here reads 16 rows of 128 tokens, two of each domain; the paper's gain saturates near 128 sequences of "
    "4,096. Only the direction of differences can be compared, not their size.",
    "Groups of the micro arm hold one domain each by design. Micro-batches of the paper are mixed at random and "
    "contain few domains by chance; this is the strong form of the same thing.",
    "Separation of effects is measured by removals of one token's expert. An expert used more in a domain has more "
    "removals there by construction; follows-use asks whether each of them costs more, too.",
    "Limits are over seeds of training (Student's t), the documents being the same for all; nulls deal domain labels "
    "to whole documents.",
]
READ = {
    "nll": "held-out loss (nats)",
    "separation": "separation in routing",
    "slots_excess": "concentration of slots beyond chance",
    "kl_excess": "concentration of KL beyond chance",
    "kl_follows_use": "KL of a removal follows use (Spearman)",
    "harm_follows_use": "harm of a removal follows use (Spearman)",
}


def sentences(tables: Tables, *, quick: bool) -> list[str]:
    """The answers, each with its interval over seeds."""
    arms, differences = tables["arms"], tables["differences"]
    seeds = int(of(arms, arm="olmoe")["seeds"])

    def less(arm: str, name: str) -> str:
        return change(of(differences, arm=f"olmoe-{arm}", against="olmoe", of=name), "difference")

    start = "A try-out that means nothing: balance" if quick else "Balance"
    return [
        f"{start} within micro-batches of one domain changes the separation of domains in routing by "
        f"{less('micro', 'separation')} against balance over the whole step, and the same groups with shuffled tokens "
        f"by {less('shuffled', 'separation')} (95 %, {seeds} seeds).",
        f"Held-out loss against balance over the whole step, nats a token: within micro-batches "
        f"{less('micro', 'nll')}, within rows {less('sequence', 'nll')}, "
        f"shuffled {less('shuffled', 'nll')}, no balance {less('none', 'nll')}.",
        f"What removals do, concentrated by domain beyond chance: within micro-batches {less('micro', 'kl_excess')} "
        f"against balance over the whole step, no balance {less('none', 'kl_excess')}.",
        f"Under balance over the whole step the KL of one removal follows the expert's use in a domain with a rank "
        f"correlation of {change(of(arms, arm='olmoe'), 'kl_follows_use')}.",
    ]


def write_page(path: Path, result: dict[str, Any], tables: Tables) -> Path:
    """One self-contained page without scripts."""
    sheet = sheet_of("Load balance by scope", result)
    arms = tables["arms"]
    caption = "Mean of the domains, limits over seeds of training."
    sheet.figure(losses(arms, "Held-out loss by scope of balance", caption))
    sheet.figure(
        profiles(
            _long(arms, {k: READ[k] for k in ("slots_excess", "kl_excess")}),
            key="separation", title="Separation of domains, in routing and in effects", unit="ratio less null",
            panel="panel", along="arm",
            caption="Concentration of an expert's share within domains over that of all domains together, less its "
            "mean under permuted domain labels: of slots (who is chosen) and of KL (whose removal moves the "
            "prediction).",
        )
    )  # fmt: skip
    sheet.table(
        table(
            rows_of(arms),
            [
                Column("arm", lambda r: r["arm"], text=True),
                Column("seeds", lambda r: r["seeds"]),
                Column("loss (nats)", lambda r: said(r, "nll")),
                *(
                    Column(words, lambda r, k=k: change(r, k))
                    for k, words in READ.items()
                    if k != "nll"
                ),
            ],
            "Arms: the same model, tokens and order for a seed",
        )
    )
    sheet.table(
        table(
            rows_of(arms),
            [
                Column("arm", lambda r: r["arm"], text=True),
                *(
                    Column(k, lambda r, k=k: said(r, k))
                    for k in ("sequence", "micro", "shuffled", "global")
                ),
            ],
            "Balance at each scope, means over layers (1 is even)",
        )
    )
    sheet.table(
        table(
            rows_of(tables["differences"]),
            [
                Column("arm", lambda r: r["arm"], text=True),
                Column("less", lambda r: r["against"], text=True),
                Column("of", lambda r: READ[r["of"]], text=True),
                Column("difference", lambda r: change(r, "difference")),
            ],
            "Differences at the same seed",
        )
    )
    sheet.heading("Limits")
    sheet.points([*LIMITS, f"Verified by plain forwards: {result['verified'][0]}"])
    return sheet.write(path)


def _long(arms: pd.DataFrame, values: dict[str, str]) -> pd.DataFrame:
    parts = [
        arms[["arm"]].assign(
            panel="beyond chance",
            series=words,
            value=arms[name],
            low=arms[f"{name}_low"],
            high=arms[f"{name}_high"],
        )
        for name, words in values.items()
    ]
    return pd.concat(parts, ignore_index=True)
