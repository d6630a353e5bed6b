"""The audit page's section on pruning, where the run's folder holds what `moeaudit prune --out RUN/pruning` wrote."""

from __future__ import annotations

import json
import math
from pathlib import Path

from markupsafe import Markup

from moeaudit.errors import RunError
from moeaudit.store.files import read_table

from ..pages.tables import Column, number, rows_of, table
from ..words.numbers import count, estimate, fixed, percent

FOLDER, RECORD = "pruning", "pruning.json"


def pruning_section(folder: Path, weights: str | None) -> Markup | None:
    """Answer, sentences and costs of the pruning in `folder`/pruning; None if there is none.

    Raises RunError where it was made with other weights than the run (`weights`, their hash).
    """
    path = folder / FOLDER / RECORD
    if not path.is_file():
        return None
    record = json.loads(path.read_text("utf-8"))
    theirs = (record.get("provenance") or {}).get("model", {}).get("weights_sha256")
    if weights is not None and theirs is not None and theirs != weights:
        raise RunError(
            f"{path} was written for other weights ({theirs[:12]}) than this run ({weights[:12]}), so the two cannot "
            "stand on one page. Repeat moeaudit prune with this run's model, or move that folder."
        )
    rows = rows_of(read_table(path.parent / "overview.parquet"))
    columns = [
        Column("choice", lambda r: str(r["criterion"]).replace("_", " "), text=True),
        Column("where", lambda r: f"{r['scope']}, {r['depth']}", text=True),
        number("kept", lambda r: percent(r["keep"], 0), "keep"),
        number("loss (nats)", lambda r: fixed(r["nll"], 4), "nll"),
        Column(
            "loss added (nats)",
            lambda r: estimate(*(_plain(r.get(c)) for c in ("d_nll", "low", "high"))),
            value=lambda r: r.get("d_nll"),
            ends=lambda r: (r.get("low"), r.get("high")),
        ),
        Column("against random choices", lambda r: r.get("verdict") or "", text=True),
    ]
    costs = table(
        rows,
        columns,
        f"What each cut costs, on {count(record['texts']['evaluated']['documents'])} other documents"
        if "evaluated" in record.get("texts", {})
        else "What each cut costs",
        [f"Limits hold {percent(record['level'], 0)}, by document; of random choices, over draws."],
    )
    lines = [record["answer"] + ".", *record["sentences"], *record["notes"]]
    items = Markup("").join(Markup("<li>{}</li>").format(line) for line in lines)
    return Markup("<ul>{}</ul>{}").format(items, costs)


def _plain(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except TypeError:
        return math.nan
