"""The tables of a pruning page: costs, limits, which experts go, and whether the criterion matters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ..pages import tables as html
from ..pages.tables import Column, folded, number, table
from ..words.numbers import count, estimate, fixed, percent, probability
from .words import DEPTHS, criterion_name, kept_share, luck, missing, rows_of

if TYPE_CHECKING:
    from moeaudit.pruning.result import PruneCurve

DASH = "\N{EN DASH}"


def _columns(curve: PruneCurve, more: list[Column]) -> list[Column]:
    """What tells a row apart; scope and layers where the curve has several."""
    several: Any = curve.table
    first = [Column("criterion", lambda r: criterion_name(r["criterion"]), text=True)]
    if several["scope"].nunique() > 1:
        first.append(Column("scope", lambda r: r["scope"], text=True))
    if several["depth"].nunique() > 1:
        first.append(Column("layers", lambda r: r["depth"], text=True))
    return [*first, *more]


def costs_table(curve: PruneCurve) -> Markup:
    """The table to read: the whole model, random choices and every criterion, share by share."""
    columns = _columns(
        curve,
        [
            STAY,
            number("perplexity", lambda r: fixed(r["ppl"], 3), "ppl"),
            _limited(f"loss added, nats/token [{percent(curve.level, 0)}]", "d_nll", "low", "high"),
            Column("beats luck?", lambda r: _luck(r, curve), text=True),
            _limited(
                "beside random, nats/token",
                "vs_random",
                "vs_random_low",
                "vs_random_high",
                "criterion",
            ),
            Column(
                "draws dearer",
                lambda r: _share(r.get("better_than_random")),
                value=lambda r: r.get("better_than_random"),
            ),
            Column("p", lambda r: _p(r.get("p_draws_holm")), value=lambda r: r.get("p_draws_holm")),
        ],
    )
    rows = rows_of(curve)
    words = dict.fromkeys(luck(r, curve.margin) for r in rows if r["kind"] == "criterion")
    notes = [f"{word}: {meaning}." for word, meaning in words]
    notes.append(
        "beside random: loss less the mean loss of random choices, with limits that resample documents and draws, one "
        "row at a time (words speak of all criteria of a share at once); draws dearer: random choices that cost more; "
        "p: of luck, corrected over the criteria of a share (Holm)."
    )
    notes.append(
        f"Of random choices the mean over the draws and, in brackets, the middle {percent(curve.level, 0)} of them; of "
        "criteria limits by documents."
    )
    return table(
        _once(rows),
        columns,
        f"Cost of pruning {curve.model}: share of experts that stay, loss and how it compares",
        notes,
    )


def _once(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The whole model stands once, at the top."""
    return [r for i, r in enumerate(rows) if r["kind"] != "whole" or i == 0]


def _kept(row: Mapping[str, Any]) -> str:
    return "100%" if row["kind"] == "whole" else kept_share(row["keep"])


def _luck(row: Mapping[str, Any], curve: PruneCurve) -> str:
    return luck(row, curve.margin)[0] if row["kind"] == "criterion" else ""


STAY = Column("stay", _kept, value=lambda r: 1.0 if r["kind"] == "whole" else r["keep"])


def _limited(heading: str, name: str, low: str, high: str, only: str = "") -> Column:
    """A column of a value with its limits; empty for the whole model, and for all but rows of kind `only`."""

    def shown(row: Mapping[str, Any]) -> bool:
        return row["kind"] == only if only else row["kind"] != "whole"

    return Column(
        heading,
        lambda r: _estimate(r, name, low, high) if shown(r) else "",
        value=lambda r: r.get(name) if shown(r) else None,
        ends=lambda r: (r.get(low), r.get(high)) if shown(r) else (None, None),
    )


def _estimate(row: Mapping[str, Any], name: str, low: str, high: str) -> str:
    if row["kind"] == "whole":
        return ""
    return DASH if missing(row.get(name)) else estimate(row[name], row[low], row[high])


def _share(value: Any) -> str:
    return "" if missing(value) else percent(value, 0)


def _p(value: Any) -> str:
    return "" if missing(value) else probability(value)


def limits_table(curve: PruneCurve) -> Markup:
    columns = _columns(
        curve,
        [
            STAY,
            number("loss, nats/token", lambda r: fixed(r["nll"], 4), "nll"),
            _limited("loss added, nats/token", "d_nll", "low", "high"),
            Column(
                "KL from the whole model, nats/token",
                _plain,
                value=lambda r: None if r["kind"] == "whole" else r["kl"],
                ends=lambda r: (
                    (None, None) if r["kind"] == "whole" else (r["kl_low"], r["kl_high"])
                ),
            ),
            Column("experts that went", _went, value=lambda r: r.get("dropped")),
        ],
    )
    words = f"Loss and divergence, with {percent(curve.level, 0)} limits"
    return table(_once(rows_of(curve)), columns, words)


def _plain(row: Mapping[str, Any]) -> str:
    if row["kind"] == "whole":
        return ""
    return estimate(row["kl"], row["kl_low"], row["kl_high"], False)


def _went(row: Mapping[str, Any]) -> str:
    return "" if missing(row.get("dropped")) else count(row["dropped"])


def gone_tables(curve: PruneCurve) -> Markup:
    """Which experts each criterion lets go, layer by layer, behind a fold for each share."""
    out = Markup("")
    frame: Any = curve.table
    named = frame[frame["criterion"] != "random"]
    for (scope, depth, keep), cell in named.groupby(["scope", "depth", "keep"], sort=False):
        if not cell["dropped"].max():
            continue
        rows = [
            {
                "criterion": row["criterion"],
                "layer": layer,
                "gone": curve.banned[int(place)].get(layer, ()),
            }
            for place, row in cell.iterrows()
            for layer in curve.experts
            if curve.banned[int(place)].get(layer)
        ]
        columns = [
            Column("criterion", lambda r: criterion_name(r["criterion"]), text=True),
            Column("layer", lambda r: r["layer"]),
            Column("experts that go", lambda r: ", ".join(map(str, r["gone"])), text=True,
                   css=lambda _: "wrap"),
        ]  # fmt: skip
        where = "" if (scope, depth) == ("layer", "all") else f", {DEPTHS[depth]}, scope {scope}"
        words = f"Experts that go where {kept_share(keep)} stay{where}"
        out += folded(words, table(rows, columns, words))
    return out


def between_tables(curve: PruneCurve) -> Markup:
    found: Any = curve.interchangeability()
    if not len(found):
        return Markup("")
    columns = [
        number("stay", lambda r: kept_share(r["keep"]), "keep"),
        Column("scope", lambda r: r["scope"], text=True),
        Column("layers", lambda r: r["depth"], text=True),
        number("range, nats/token", lambda r: fixed(r["spread"], 4), "spread"),
        number("of as many random", lambda r: _number(r["spread_random"]), "spread_random"),
        number("p, luck", lambda r: _p(r["p_spread"]), "p_spread"),
        Column("pairs that differ", lambda r: f"{r['differ']} of {r['pairs']}"),
        Column(f"within {curve.margin:g}", lambda r: f"{r['within']} of {r['pairs']}"),
        Column("criteria are", lambda r: r["verdict"], text=True),
        Column("of", lambda r: r["supports"] or DASH, text=True),
    ]
    notes = [
        "range: from the cheapest criterion to the dearest, and the mean over sets of as many random choices."
    ]
    notes += dict.fromkeys(r["reason"] for r in html.rows_of(found) if r["reason"])
    whole = table(html.rows_of(found), columns, "Range of the criteria, share by share", notes)
    pairs: Any = curve.pairs()
    columns = [
        Column("one", lambda r: criterion_name(r["a"]), text=True),
        Column("other", lambda r: criterion_name(r["b"]), text=True),
        number("stay", lambda r: kept_share(r["keep"]), "keep"),
        Column("scope", lambda r: r["scope"], text=True),
        Column("layers", lambda r: r["depth"], text=True),
        Column(
            "difference, nats/token",
            lambda r: estimate(r["difference"], r["low"], r["high"]),
            value=lambda r: r["difference"],
            ends=lambda r: (r["low"], r["high"]),
        ),
        number("experts shared", lambda r: percent(r["shared"], 0), "shared"),
        number("p, luck", lambda r: _p(r["p_draws_holm"]), "p_draws_holm"),
    ]
    words = "Every pair of criteria, with simultaneous limits in each cut"
    return whole + folded(words, table(html.rows_of(pairs), columns, words))


def _number(value: Any) -> str:
    return DASH if missing(value) else fixed(value, 4)
