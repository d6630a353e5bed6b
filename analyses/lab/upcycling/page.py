"""The page of analyses/lab/upcycling: the answer, the planted truth, losses, how far experts came apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moeaudit.report.pages.tables import Column, rows_of, table
from moeaudit.report.words.numbers import percent

from ..pages import Tables, change, losses, of, said, sheet_of

LIMITS = [
    "Dense models of less than a million parameters after half a million tokens are far from trained; what a "
    "mixture gains here says which way things lie, nothing of how Qwen1.5-MoE was born.",
    "The dense model reads one half of the training documents (by a hash of their text), the arms go on with the "
    "other, of which it has read none. Halves are the same for all seeds.",
    "Tokens are the same for all arms; operations are not: two active copies cost twice the dense MLP. The arm "
    "with one active expert is the one of equal operations.",
    "Intervals are over seeds (Student's t): a seed draws the dense model, the router, the re-initialised units "
    "and the order of the text. Documents are the same for all.",
    "The routing of copies is planted by k-means or drawn; it is no evidence of how mixtures come to route.",
]


def sentence(tables: Tables, *, quick: bool) -> str:
    """The finding in one sentence."""
    oracle = tables["oracle"]
    apart, gap = (of(tables[name], arm="k-means") for name in ("experts", "differences"))
    start = "A try-out that means nothing: b" if quick else "B"
    off, most = oracle.perplexity_off.max(), oracle.swap_most.max()
    return (
        f"{start}efore training, mixtures of copies have the dense model's perplexity to {off:.1e} and any swap "
        f"changes no loss by more than {most:.1e} nats; after it, experts of the k-means arm are "
        f"{said(apart, 'distance')} apart (relative), another expert does {said(apart, 'stand_in')} of an active "
        "one's work, and the loss differs from the dense model trained on the same tokens by "
        f"{change(gap, 'difference')} nats a token (95 %, {int(gap['seeds'])} seeds)."
    )


def write_page(path: Path, result: dict[str, Any], tables: Tables) -> Path:
    """One self-contained page without scripts."""
    sheet = sheet_of("Upcycling", result)
    caption = "After training on the same tokens, limits over seeds."
    sheet.figure(losses(tables["losses"], "Held-out loss by arm", caption))
    sheet.table(
        table(
            rows_of(tables["oracle"]),
            [
                Column("arm", lambda r: r["arm"], text=True),
                Column("seed", lambda r: r["seed"]),
                Column("dense loss", lambda r: f"{r['dense_nll']:.6f}"),
                Column("mixture's", lambda r: f"{r['nll']:.6f}"),
                Column("perplexity off by", lambda r: f"{r['perplexity_off']:.1e}"),
                Column("largest distance", lambda r: f"{r['distance']:.1e}"),
                Column("largest effect of a swap", lambda r: f"{r['swap_most']:.1e}"),
                Column("KL of a removal", lambda r: f"{r['removed']:.2e}"),
                Column("stand-in", lambda r: percent(r["stand_in"], 2)),
            ],
            "The planted truth, before training: the function is the dense model's and any expert stands in for "
            "any other",
        )
    )
    sheet.table(
        table(
            rows_of(
                tables["losses"].merge(
                    tables["differences"].drop(columns="reason"), how="left", on=["arm", "seeds"]
                )
            ),
            [
                Column("arm", lambda r: r["arm"], text=True),
                Column("seeds", lambda r: r["seeds"]),
                Column("loss (nats)", lambda r: said(r, "nll")),
                Column(
                    "against dense",
                    lambda r: "" if r["arm"] == "dense" else change(r, "difference"),
                ),
            ],
            "Held-out loss after training on the same tokens",
        )
    )
    sheet.table(
        table(
            rows_of(tables["experts"]),
            [
                Column("arm", lambda r: r["arm"], text=True),
                Column("distance of two experts", lambda r: said(r, "distance")),
                Column("KL of a removal", lambda r: said(r, "removed")),
                Column("KL of another in its place", lambda r: said(r, "swapped")),
                Column("stand-in", lambda r: said(r, "stand_in")),
            ],
            "How far experts came apart: 1 - KL of another / KL of a removal is the share of its work that "
            "another does",
        )
    )
    for line in LIMITS:
        sheet.paragraph(line)
    return sheet.write(path)
