"""The page of a calibration file: one HTML file without fonts or network, complete without scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from moeaudit.frames import Frame

from ..figures.reliability import gaps_figure, missing, reliability_figure
from ..words.numbers import (
    MINUS,
    count,
    decimals_for,
    estimate,
    fixed,
    interval,
    percent,
    probability,
)
from .tables import Column, folded, number, rows_of, table
from .template import templates, with_tables

SIGNED = {
    "gap",
    "brier_calibration",
    "nll_calibration",
    "ece_squared_rows",
    "ece_squared_documents",
}


def render_calibration(
    scores: Frame, bins: Frame, meaning: Mapping[str, str], record: Mapping[str, Any]
) -> str:
    """The page as text, from the tables of `calibration_scores` and `reliability`.

    `meaning` says what each score is; `record` says where the numbers come from (title, level, draws,
    remarks, provenance). Every word that comes from the file is escaped.
    """
    level = float(record["level"])
    page = (
        templates()
        .get_template("calibration.html.j2")
        .render(
            **with_tables(),
            record=record,
            headline=headline(scores),
            sentences=sentences(scores),
            facts=_facts(scores),
            figures=[reliability_figure(bins, scores, level), gaps_figure(scores, level)],
            tables=_tables(scores, meaning, level),
            percent=percent(level, 0),
        )
    )
    return page + "\n"


def headline(scores: Frame) -> str:
    """The answer in one sentence, from the limits and never from the plug-in score alone."""
    whole = _whole(scores)
    gap, ece = whole["gap"], whole["ece_debiased_documents"]
    if missing(gap["value"]):
        return f"Calibration is {gap['reason']}"
    if missing(gap["low"]):
        size = _points(gap["value"])
        return f"The mean gap is {size} points; how sure that is cannot be said"
    if gap["low"] > 0 or gap["high"] < 0:
        way = "Over-confident" if gap["value"] > 0 else "Under-confident"
        low, high = sorted(abs(gap[k]) for k in ("low", "high"))
        return (
            f"{way} by {_points(abs(gap['value']))} points on average "
            f"({_points(low)} to {_points(high)})"
        )
    if whole["kuiper"]["p_documents"] <= 0.05:
        return "Right on average, but not at every confidence"
    return f"No miscalibration was found; an error of up to {_points(ece['high'])} points remains possible"


def sentences(scores: Frame) -> list[str]:
    """What else a reader should know before the figures."""
    whole = _whole(scores)
    out = []
    ece, debiased = whole["ece_mass_l1"], whole["ece_debiased_documents"]
    if not missing(ece["value"]):
        out.append(
            f"The plug-in ECE (equal mass) is {fixed(ece['value'], 4)}; a calibrated model would show "
            f"{fixed(ece['null_mean'], 4)} from noise alone. Without that noise the root mean square error "
            f"is {_with_limits(debiased)}."
        )
    if not missing(whole["kuiper"]["p"]):
        kuiper = whole["kuiper"]
        own = (
            ""
            if missing(kuiper["p_documents"])
            else (
                f", and p {_p(kuiper['p_documents'])} if predictions of a document may depend on each other"
            )
        )
        out.append(
            f"Cumulative differences (Kuiper) against calibrated, independent outcomes: p "
            f"{_p(kuiper['p'])}{own}."
        )
    parts = whole["nll_calibration"]
    if not missing(parts["value"]):
        out.append(
            f"Isotonic recalibration on other documents would change the NLL by "
            f"{fixed(-parts['value'], 4, True)} nats (NLL now {fixed(whole['nll']['value'], 4)})."
        )
    out += _groups(scores)
    return out


def _groups(scores: Frame) -> list[str]:
    gaps = rows_of(scores[(scores["score"] == "gap") & ~scores["whole"]])
    if not gaps:
        return []
    over = sum(not missing(r["low"]) and r["low"] > 0 for r in gaps)
    under = sum(not missing(r["high"]) and r["high"] < 0 for r in gaps)
    none = sum(missing(r["value"]) for r in gaps)
    words = f"Of {len(gaps)} groups {over} are over-confident and {under} under-confident by their own limits"
    words += f"; {none} could not be estimated." if none else "."
    worst = _whole(scores).get("multicalibration")
    if worst is not None and not missing(worst["p"]):
        words += f" That no group is off by more than its noise has p {_p(worst['p'])}."
    return [words]


def _facts(scores: Frame) -> list[dict[str, str]]:
    gap = _whole(scores)["gap"]
    accuracy, confidence = _whole(scores)["accuracy"], _whole(scores)["confidence"]
    effective = "" if gap["n_effective"] == gap["n"] else f"effective {count(gap['n_effective'])}"
    return [
        {"name": "predictions", "value": count(gap["n"]), "note": effective},
        {"name": "documents", "value": count(gap["documents"]), "note": ""},
        {"name": "accuracy", "value": _plain(accuracy["value"]), "note": ""},
        {"name": "mean confidence", "value": _plain(confidence["value"]), "note": ""},
    ]


def _tables(scores: Frame, meaning: Mapping[str, str], level: float) -> Markup:
    columns = [
        Column("score", lambda r: r["score"], text=True),
        Column(
            "value",
            lambda r: _plain(r["value"], r),
            value=lambda r: r["value"],
            ends=lambda r: (r["low"], r["high"]),
        ),
        Column(f"{percent(level, 0)} limits", _limits),
        number("by noise alone", lambda r: _plain(r["null_mean"], r), "null_mean"),
        number(
            f"{percent(level, 0)} of noise below", lambda r: _plain(r["null_high"], r), "null_high"
        ),
        number("p", lambda r: _probability(r["p"]), "p"),
        number("p, documents", lambda r: _probability(r["p_documents"]), "p_documents"),
        Column(
            "what it is", lambda r: meaning.get(r["score"], ""), text=True, css=lambda _: "wrap"
        ),
        Column("remark", lambda r: r["reason"] or "", text=True, css=lambda _: "wrap"),
    ]
    out = Markup("")
    for whole, name in dict.fromkeys(zip(scores["whole"], scores["stratum"])):
        rows = rows_of(scores[(scores["whole"] == whole) & (scores["stratum"] == name)])
        words = "All predictions" if whole else f"Stratum {name}"
        body = table(rows, columns, f"{words}: {count(rows[0]['n'])} predictions")
        out += body if whole else folded(words, body)
    return out


def _whole(scores: Frame) -> dict[str, dict[str, Any]]:
    return {r["score"]: r for r in rows_of(scores[scores["whole"]])}


def _limits(row: Mapping[str, Any]) -> str:
    if missing(row["low"]) or missing(row["high"]):
        return "\N{EN DASH}"
    return interval(row["low"], row["high"], sign=row["score"] in SIGNED)


def _with_limits(row: Mapping[str, Any]) -> str:
    if missing(row["low"]):
        return fixed(row["value"], 4)
    return estimate(row["value"], row["low"], row["high"], sign=False)


def _plain(value: Any, row: Mapping[str, Any] | None = None) -> str:
    if missing(value):
        return "\N{EN DASH}"
    decimals = 4
    if row is not None and not missing(row["low"]) and not missing(row["high"]):
        decimals = max(4, decimals_for((row["high"] - row["low"]) / 2))
    return fixed(value, decimals, row is not None and row["score"] in SIGNED)


def _points(value: Any) -> str:
    return f"{100 * value:.2g}".replace("-", MINUS)


def _p(value: float) -> str:
    words = probability(value)
    return words if words.startswith("<") else f"= {words}"


def _probability(value: Any) -> str:
    return "\N{EN DASH}" if missing(value) else probability(value)
