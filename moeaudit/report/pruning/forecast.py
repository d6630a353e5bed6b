"""A forecast on the page of a pruning curve, beside what was then measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from moeaudit.frames import Frame
from moeaudit.pruning.forecast.signs import SIGNS
from moeaudit.pruning.forecast.words import between, percent, sign

from ..pages import tables as html
from ..pages.tables import Column, folded, number, table
from ..words.numbers import estimate
from .words import missing

if TYPE_CHECKING:
    from moeaudit.pruning.forecast import Forecast
    from moeaudit.pruning.result import PruneCurve

DASH = "\N{EN DASH}"


def beside_measured(found: Forecast, curve: PruneCurve) -> Frame:
    """`found.table` with `measured`, `measured_low`, `measured_high`: what the table's criterion cost this model in all
    layers, the same share in each; null where it was not measured."""
    costs: Any = curve.table
    here = costs[
        (costs["criterion"] == found.known.criterion)
        & (costs["scope"] == "layer")
        & (costs["depth"] == "all")
    ]
    here = here[["keep", "d_nll", "low", "high"]].drop_duplicates("keep")
    names = {"d_nll": "measured", "low": "measured_low", "high": "measured_high"}
    return found.table.merge(here.rename(columns=names), on="keep", how="left", validate="1:1")


def forecast_section(found: Forecast, curve: PruneCurve) -> dict[str, Any]:
    """What the template shows: sentences, notes, and the tables of losses and signs."""
    return {
        "documents": found.signs.documents,
        "sentences": found.sentences(),
        "notes": found.notes,
        "losses": _losses(found, curve),
        "signs": folded("Signs of this model, beside those of the table's models", _signs(found)),
    }


def _losses(found: Forecast, curve: PruneCurve) -> html.Markup:
    level = f"[{found.level:.0%}]"
    columns = [
        Column("pruned", lambda r: percent(1 - r["keep"]), text=True, value=lambda r: r["keep"]),
        Column(
            f"forecast, nats/token {level}",
            lambda r: between(r["lost"], r["low"], r["high"]) if _told(r) else "all lost the same",
            value=lambda r: r["lost"],
            ends=lambda r: (r["low"], r["high"]),
        ),
        Column(
            f"mean, no census {level}",
            lambda r: between(r["mean"], r["mean_low"], r["mean_high"]),
            value=lambda r: r["mean"],
            ends=lambda r: (r["mean_low"], r["mean_high"]),
        ),
        Column("measured here", _measured, value=lambda r: r["measured"]),
        Column("within the limits", _within, text=True),
        number(
            "off by a factor of", lambda r: f"{r['factor']:.2f}" if _told(r) else DASH, "factor"
        ),
        number("the mean", lambda r: f"{r['baseline']:.2f}" if _told(r) else DASH, "baseline"),
        Column(
            "error smaller by [95%]",
            lambda r: (
                f"{percent(r['gain'])} [{percent(r['gain_low'])}, {percent(r['gain_high'])}]"
                if _told(r)
                else DASH
            ),
            value=lambda r: r["gain"],
            ends=lambda r: (r["gain_low"], r["gain_high"]),
        ),
    ]
    by = found.known.criterion or "the criterion of the table"
    notes = [
        f"forecast, mean: limits that held {found.level:.0%} of the recipes left out, in {found.known.name}; off by: "
        "of recipes left out there.",
        f"measured here: loss added by {by}, the same share in each layer, with limits by documents; {DASH} where that "
        "was not measured.",
    ]
    rows = html.rows_of(beside_measured(found, curve))
    return table(rows, columns, "Forecast beside what was measured", notes)


def _signs(found: Forecast) -> html.Markup:
    columns = [
        Column("sign", lambda r: r["sign"], text=True),
        number("this model", lambda r: sign(r["value"]), "value"),
        number("least", lambda r: sign(r["low"]), "low"),
        number("most", lambda r: sign(r["high"]), "high"),
        Column(
            "beyond the table",
            lambda r: "yes" if r["outside"] else "no" if r["used"] else "not used",
            text=True,
        ),
        Column("what it is", lambda r: SIGNS[r["sign"]], text=True),
    ]
    frame: pd.DataFrame = found.ranges
    return table(html.rows_of(frame), columns, f"Signs of {found.model}")


def _told(row: Any) -> bool:
    return row["gain"] == row["gain"]


def _measured(row: Any) -> str:
    if missing(row["measured"]):
        return DASH
    return estimate(row["measured"], row["measured_low"], row["measured_high"])


def _within(row: Any) -> str:
    if missing(row["measured"]) or not _told(row):
        return DASH
    return "yes" if row["low"] <= row["measured"] <= row["high"] else "no"
