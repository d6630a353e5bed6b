"""Tables and tiles of the report that are not figures: key figures and documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from moeaudit.frames import Frame

from ..words.numbers import count, estimate, fixed, percent
from ..words.operator import OperatorWords
from .tables import Column, folded, number, rows_of, table

if TYPE_CHECKING:
    from moeaudit.runs.run import StoredRun


def facts(run: StoredRun, whole: dict[str, float], said: OperatorWords) -> list[dict[str, str]]:
    """The key figures as tiles."""
    tokens: Frame = run.tokens
    nll = float(tokens["nll"].mean())
    among = f"of {len(run.spec.layers)} layers"
    if run.question.share != 1:
        among += f", a sample of {count(run.record['summary']['possible'])}"
    tiles = [
        (said.many, count(whole["rows"]), among),
        ("tokens", count(len(tokens)), f"{count(whole['documents'])} documents"),
        (
            "mean harm",
            *_split(whole, "delta_nll", True),
        ),
        ("mean disturbance, KL", *_split(whole, "kl", False)),
        ("raise the loss", percent(whole["harmful"]), f"of {said.many}"),
        ("flip the top prediction", percent(whole["flip"]), f"of {said.many}"),
        ("loss of the intact model", fixed(nll, 2), "nats per token"),
        ("correct top predictions", percent(float(tokens["correct"].mean())), "intact model"),
    ]
    return [{"name": n, "value": v, "note": w} for n, v, w in tiles]


def _split(whole: dict[str, float], name: str, sign: bool) -> tuple[str, str]:
    """The estimate, and its interval for the line below."""
    text = estimate(whole[name], whole[f"{name}_low"], whole[f"{name}_high"], sign)
    value, _, rest = text.partition(" ")
    return value, f"nats {rest}".strip()


def data_tables(run: StoredRun, by_domain: Frame, said: OperatorWords) -> Markup:
    """Documents by domain and role, and the mean effects by domain."""
    documents = run.documents
    grouped = documents.groupby(["domain", "role"], observed=True).agg(
        documents=("document", "size"), tokens=("tokens", "sum")
    )
    wide = grouped.unstack("role", fill_value=0)
    wide.columns = [f"{a}_{b}" for a, b in wide.columns]
    rows = rows_of(wide.reset_index())
    tokens: Frame = run.tokens
    own = tokens.groupby("domain", observed=True)["nll"].mean()
    loss = {str(k): float(v) for k, v in own.items()}
    columns = [
        Column("domain", lambda r: r["domain"], text=True),
        Column("documents for metrics", lambda r: count(r.get("documents_metrics", 0))),
        Column("tokens", lambda r: count(r.get("tokens_metrics", 0))),
        Column("documents for effects", lambda r: count(r.get("documents_effects", 0))),
        Column("tokens", lambda r: count(r.get("tokens_effects", 0))),
        Column(
            "loss of the intact model (nats)", lambda r: fixed(loss.get(r["domain"], np.nan), 2)
        ),
    ]
    first = table(rows, columns, "Documents by domain and by what they were used for")
    return first + folded("Mean effects by domain and layer", _domain_table(by_domain, said))


def _domain_table(frame: Frame, said: OperatorWords) -> Markup:
    columns = [
        Column("domain", lambda r: r["domain"], text=True),
        Column("layer", lambda r: said.place(r["layer"]).removeprefix("layer ")),
        Column("documents", lambda r: count(r["documents"])),
        Column(said.many, lambda r: count(r["rows"])),
        number(
            "mean harm (nats)",
            lambda r: estimate(r["delta_nll"], r["delta_nll_low"], r["delta_nll_high"]),
            "delta_nll",
            True,
        ),
        number(
            "mean KL (nats)",
            lambda r: estimate(r["kl"], r["kl_low"], r["kl_high"], False),
            "kl",
            True,
        ),
    ]
    return table(rows_of(frame), columns, f"Mean effect of one {said.one}, by domain and layer")
