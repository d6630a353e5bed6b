"""The tables of the page: runs, differences, orders and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from moeaudit.frames import Frame
from moeaudit.stats.difference.verdicts import VERDICTS

from ..pages.tables import Column, Row, folded, rows_of, table
from ..words.evidence import metric_name, outcome_name
from ..words.numbers import count, estimate, fixed, layers_text, percent, probability, significant
from .drawn.maps import SIGNED
from .words import difference, number, unit, verdict_words

if TYPE_CHECKING:
    from .pairs import Pair
    from .result import Compared


def runs_table(compared: Compared) -> Markup:
    """One row a run: what was asked of which model, on what, when."""
    rows = [{"side": side, "run": side.run} for side in compared.sides]
    columns = [
        Column("run", lambda r: r["side"].letter, text=True),
        Column("model", lambda r: r["run"].spec.model, text=True),
        Column("operator", lambda r: str(r["run"].question), text=True),
        Column("layers", lambda r: layers_text(list(r["run"].spec.layers)), text=True),
        Column("documents", lambda r: count(r["run"].record["summary"]["documents"])),
        Column("tokens", lambda r: count(r["run"].record["summary"]["tokens"])),
        Column("rows", lambda r: count(r["run"].record["summary"]["rows"])),
        Column("share of removals", lambda r: percent(r["run"].question.share, 0)),
        Column("finished", lambda r: str(r["run"].record["finished"])[:10], text=True),
        Column("folder", lambda r: str(r["run"].folder), text=True),
    ]
    return table(rows, columns, "The runs; differences are of the first less each other")


def _mean(side: str) -> Any:
    def write(row: Any) -> str:
        said = significant(number(row[f"mean_{side}"]), 3, row["outcome"] in SIGNED)
        return f"{said} {unit(row['outcome'])}".rstrip()

    return write


def _columns(stub: list[Column], whole: bool = False) -> list[Column]:
    return [
        *stub,
        Column("A", _mean("a")),
        Column("other", lambda r: f"{r['b']}: {_mean('b')(r)}"),
        Column("A less other", difference),
        Column("p, corrected", lambda r: probability(number(r["p_corrected"]))),
        Column("verdict", lambda r: verdict_words(r["verdict"], r["a"], r["b"]), text=True),
        *([] if whole else [Column("documents", lambda r: count(r["documents"]))]),
        Column("why none", lambda r: r["too_few"] or "", text=True),
    ]


def _kept(columns: list[Column], rows: Sequence[Row]) -> list[Column]:
    """Without the column of reasons where there is none."""
    return columns if any(row["too_few"] for row in rows) else columns[:-1]


def differences_table(compared: Compared, frame: Frame, what: str) -> Markup:
    """A table of differences of one kind of place, outcome by outcome."""
    rows = rows_of(frame)
    stub = [Column("outcome", lambda r: outcome_name(r["outcome"]), text=True)]
    for name in ("third", "layer"):
        if name in frame:
            stub.append(Column(name, lambda r, key=name: str(r[key]), text=name == "third"))
    level = percent(compared.how.level, 0)
    return table(
        rows,
        _kept(_columns(stub), rows),
        f"{what}: means, and differences with {level} limits by document",
    )


def depth_tables(compared: Compared) -> Markup:
    """Thirds of the depth, and layers where they are the same places."""
    parts = []
    if not compared.thirds.empty:
        parts.append(differences_table(compared, compared.thirds, "Thirds of the depth"))
    if not compared.layers.empty:
        parts.append(folded("All layers", differences_table(compared, compared.layers, "Layers")))
    return Markup("").join(parts)


def cells_table(compared: Compared, pair: Pair, outcome: str) -> Markup:
    """Every cell, the largest difference first."""
    cells = compared.cells
    mine = cells[(cells["outcome"] == outcome) & (cells["b"] == pair.b.letter)]
    size = np.nan_to_num(np.abs(mine["difference"].to_numpy(float, na_value=np.nan)), nan=-1)
    rows = rows_of(mine.iloc[np.argsort(-size, kind="stable")])
    stub = [Column("layer, expert", lambda r: f"{r['layer']}, {r['expert']}")]
    level = percent(compared.how.level, 0)
    said = (
        f"{outcome_name(outcome)} of every expert, the largest difference first, with {level} limits by document, "
        "each on its own; p and verdict are corrected over all of them"
    )
    return folded(
        f"All {len(rows)} cells as a table", table(rows, _kept(_columns(stub), rows), said)
    )


def ranks_table(compared: Compared) -> Markup:
    """Rank agreement, layer by layer; empty markup where experts are not compared."""
    if compared.ranks.empty:
        return Markup("")
    columns = [
        Column("outcome", lambda r: outcome_name(r["outcome"]), text=True),
        Column("runs", lambda r: f"{r['a']}, {r['b']}", text=True),
        Column("layer", lambda r: str(r["layer"])),
        Column("experts", lambda r: count(r["experts"])),
        Column(
            "rank correlation",
            lambda r: estimate(number(r["rho"]), number(r["low"]), number(r["high"])),
        ),
        Column("from separate halves", lambda r: fixed(number(r["apart"]), 2, True)),
        Column("halves of one run", lambda r: fixed(number(r["halves"]), 2, True)),
        Column("why no limits", lambda r: r["reason"] or "", text=True),
    ]
    rows = rows_of(compared.ranks)
    return table(
        rows,
        columns if any(r["reason"] for r in rows) else columns[:-1],
        "Spearman's correlation over a layer's experts of the two runs' means",
        [
            "Limits take documents and experts as samples. Where runs read the same documents, what these have in "
            "common makes orders more alike: the correlation from separate halves is free of it, and is to be read "
            "against what the halves of one run agree to."
        ],
    )


def agreed_tables(compared: Compared) -> Markup:
    """How often verdicts are the same, and where they are not."""
    if compared.agreement.empty:
        return Markup("")
    columns = [
        Column("question", lambda r: r["question"], text=True),
        Column("outcome", lambda r: outcome_name(r["outcome"]), text=True),
        Column("runs", lambda r: f"{r['a']}, {r['b']}", text=True),
        Column("cells", lambda r: count(r["cells"])),
        Column("same verdict", lambda r: count(r["same"])),
        Column("effect shown in A", lambda r: count(r["shown_a"])),
        Column("in the other", lambda r: count(r["shown_b"])),
        Column("in both", lambda r: count(r["shown_both"])),
        Column("of opposite sign", lambda r: count(r["opposite"])),
    ]
    counts = table(
        rows_of(compared.agreement), columns, "Verdicts of the two runs on the same cells"
    )
    other: Frame = compared.verdicts
    other = other[other["verdict_a"] != other["verdict_b"]]
    if other.empty:
        return counts
    cells = [
        Column("metric", lambda r: metric_name(r["metric"])[0], text=True),
        Column("layer", lambda r: str(r["layer"])),
        Column("question", lambda r: r["question"], text=True),
        Column("outcome", lambda r: outcome_name(r["outcome"]), text=True),
        Column("A", lambda r: r["verdict_a"], text=True),
        Column("other", lambda r: f"{r['b']}: {r['verdict_b']}", text=True),
        Column("estimate in A", lambda r: fixed(number(r["estimate_a"]), 3, True)),
        Column("in the other", lambda r: fixed(number(r["estimate_b"]), 3, True)),
    ]
    return counts + folded(
        f"The {len(other)} cells with other verdicts",
        table(
            rows_of(other),
            cells,
            "Cells with other verdicts; estimates are d_z within a token, rho across experts",
        ),
    )


def meanings(compared: Compared) -> Markup:
    """What each verdict that occurs means."""
    tables = (compared.whole, compared.thirds, compared.layers, compared.cells)
    found = {v for each in tables if not each.empty for v in each["verdict"]}
    rows = [{"verdict": v, "means": m} for v, m in VERDICTS.items() if v in found]
    columns = [
        Column("verdict", lambda r: r["verdict"], text=True),
        Column("it says", lambda r: r["means"], text=True, css=lambda _: "wrap"),
    ]
    return table(rows, columns, "What the verdicts say; B stands for the other run")
