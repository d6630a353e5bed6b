"""The page of a calibration audit: one HTML file without fonts or network, complete without scripts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from moeaudit.calibration.scores.reliability import reliability
from moeaudit.frames import Frame
from moeaudit.runs.working.folder import check_report_path
from moeaudit.store.files import write_text

from ..figures.figure import Figure
from ..figures.parts.signed import Point, Row, signed
from ..figures.reliability import gaps_figure, reliability_figure
from ..words.numbers import count, estimate, fixed, percent, probability
from .tables import Column, folded, number, rows_of, table
from .template import templates, with_tables

if TYPE_CHECKING:
    from moeaudit.runs.calibration.audit import CalibrationTables

SIDES = {"in domain": "v-rev", "shifted": "v-pred"}
NOT_SAID = "\N{EN DASH}"


def write_calibration_audit(audit: CalibrationTables, path: Path) -> Path:
    """Write the page atomically. Raises RunError if `path` is taken by anything but such a page."""
    check_report_path(path)
    write_text(path, render_calibration_audit(audit))
    return path


def render_calibration_audit(audit: CalibrationTables) -> str:
    """The page as text. Names from corpora and models are escaped."""
    level = float(audit.record["settings"]["level"])
    page = (
        templates()
        .get_template("calibration_audit.html.j2")
        .render(
            **with_tables(),
            record=audit.record,
            sentences=audit.sentences(),
            figures=_figures(audit, level),
            routing=_routing(audit, level),
            temperatures=_temperatures(audit.tables["temperatures"]),
            provenance=_provenance(audit.record),
            percent=percent(level, 0),
        )
    )
    return page + "\n"


def _figures(audit: CalibrationTables, level: float) -> list[Figure]:
    drawn = []
    scores: Any = audit.tables["scores"]
    settings = audit.record["settings"]
    for side in SIDES:
        mine = scores[
            (scores["condition"] == "clean")
            & (scores["side"] == side)
            & (scores["method"] == "none")
        ]
        key = side.replace(" ", "-")
        if audit.conditions:
            p = audit.conditions[0].predictions(side, "none")[0]
            bins = reliability(p, draws=settings["draws"], seed=settings["seed"], level=level)
            figure = reliability_figure(bins, mine, level, f"clean model, {side}")
            title = f"Clean model, {side}: is confidence earned?"
            drawn.append(_renamed(figure, f"reliability-{key}", title))
        title = f"Clean model, {side}: signed gap by domain"
        gaps = gaps_figure(mine, level, f"clean model, {side}")
        drawn.append(_renamed(gaps, f"gaps-{key}", title))
    if len(audit.record["conditions"]) > 1:
        differences = audit.tables["differences"]
        drawn.append(
            effects_figure(differences, "gap", "confidence \N{MINUS SIGN} accuracy", level)
        )
        drawn.append(effects_figure(differences, "loss", "loss, nats a token", level))
    return drawn


def stored_figures(audit: CalibrationTables) -> list[Figure]:
    """The figures that need the tables alone, not the predictions behind them."""
    return _figures(audit, float(audit.record["settings"]["level"]))


def _renamed(figure: Figure, key: str, title: str) -> Figure:
    return Figure(key, title, figure.caption, figure.drawing, figure.table)


def effects_figure(differences: Frame, score: str, words: str, level: float) -> Figure:
    """Edited minus clean for every condition, in domain and shifted, with limits."""
    d: Any = differences
    d = d[d["whole"] & (d["method"] == "none") & (d["score"] == score)]
    found = [r for r in rows_of(d) if r["side"] in SIDES]
    rows = [
        Row(str(name), [_point(r) for r in found if r["condition"] == name])
        for name in dict.fromkeys(r["condition"] for r in found)
    ]
    caption = Markup(
        "Each edited model minus the clean one on the same tokens, with {} limits by document "
        "bootstrap."
    ).format(percent(level, 0))
    drawing = signed(
        f"Edited {chr(0x2212)} clean: {words}",
        rows,
        1e-3,
        ("circle, blue: in domain", "square, orange: shifted"),
        f"Effect of each edit on {words}",
    )
    every: Any = differences
    every = every[every["whole"] & (every["score"] == score)]
    columns = [
        Column("edit", lambda r: r["condition"], text=True),
        Column("side", lambda r: r["side"], text=True),
        Column("temperature", lambda r: "one" if r["method"] != "none" else "none", text=True),
        number("clean", lambda r: fixed(r["clean"], 4, True), "clean"),
        number("edited", lambda r: fixed(r["edited"], 4, True), "edited"),
        Column(
            "difference",
            _estimate,
            value=lambda r: r["difference"],
            ends=lambda r: (r["low"], r["high"]),
        ),
        number("tokens", lambda r: count(r["n"]), "n"),
        number("documents", lambda r: count(r["documents"]), "documents"),
        Column("remark", lambda r: r["reason"] or "", text=True),
    ]
    numbers = table(rows_of(every), columns, f"Edited minus clean: {words}")
    title = f"What each edit did: {words}"
    return Figure(f"effects-{score}", title, caption, drawing, folded("The numbers", numbers))


def _routing(audit: CalibrationTables, level: float) -> Markup:
    """Found cells with their replication, and the worst mixes; empty if routing was not asked for."""
    if "routing" not in audit.tables:
        return Markup("")
    r: Any = audit.tables["routing"]
    columns = [
        Column("grouping", lambda x: x["grouping"], text=True),
        Column("group", lambda x: x["group"], text=True),
        Column("confidence", lambda x: x["bin"], text=True),
        Column(
            "correct \N{MINUS SIGN} confidence",
            lambda x: _estimate(x, "residual"),
            value=lambda x: x["residual"],
            ends=lambda x: (x["low"], x["high"]),
        ),
        number("p, family-wise", lambda x: _p(x["p_maxt"]), "p_maxt"),
        number("beyond its bin", lambda x: _number(x["excess"]), "excess"),
        number("p of that, family-wise", lambda x: _p(x["excess_p_maxt"]), "excess_p_maxt"),
        number("shifted", lambda x: _number(x["residual_2"]), "residual_2"),
        number("p, Holm", lambda x: _p(x["p_2"]), "p_2"),
        Column("survives", _survives, text=True),
        number("tokens", lambda x: count(x["n"]), "n"),
    ]
    out = Markup("")
    for method in dict.fromkeys(r["method"]):
        mine = r[r["method"] == method]
        found = mine[mine["verdict"].isin(["over-confident", "under-confident"])]
        tested = int(mine["p"].notna().sum())
        replicated = int((found["survives"] == True).sum())  # noqa: E712
        how = "as the model says it" if method == "none" else "after one temperature"
        caption = (
            f"Confidence {how}: {len(found)} of {tested} tested cells are miscalibrated at a "
            f"family-wise {percent(1 - level, 0)}, {replicated} of them also under shift; "
            f"{len(mine) - tested} cells were too small to test"
        )
        body = table(rows_of(found), columns, caption)
        out += folded(caption, body)
    w: Any = audit.tables["worst"]
    columns = [
        Column("grouping", lambda x: x["grouping"], text=True),
        Column("temperature", lambda x: "one" if x["method"] != "none" else "none", text=True),
        number("KL radius, nats", lambda x: fixed(x["radius"], 2), "radius"),
        Column("direction", lambda x: x["direction"], text=True),
        number("gap today", lambda x: _number(x["gap"]), "gap"),
        number("worst gap", lambda x: _number(x["worst"]), "worst"),
        number("by chance", lambda x: _number(x["null_mean"]), "null_mean"),
        number("p", lambda x: _p(x["p"]), "p"),
        Column("worst group", lambda x: x["worst_configuration"], text=True),
        Column("remark", lambda x: x["reason"] or "", text=True),
    ]
    words = "Worst mixes of routing groups at bounded KL, against permuted labels of documents"
    return out + folded(words, table(rows_of(w), columns, words))


def _temperatures(frame: Frame) -> Markup:
    columns = [
        Column("model", lambda r: r["condition"], text=True),
        number("temperature", lambda r: fixed(r["temperature"], 4), "temperature"),
        number("loss before", lambda r: fixed(r["nll_before"], 4), "nll_before"),
        number("loss after", lambda r: fixed(r["nll_after"], 4), "nll_after"),
        number("tokens", lambda r: count(r["n"]), "n"),
        Column("remark", lambda r: r["reason"] or "", text=True),
    ]
    return table(rows_of(frame), columns, "Temperatures, with losses on the documents of the fit")


def _provenance(record: dict[str, Any]) -> dict[str, str]:
    said = {"written": record["written"]}
    for name in ("documents", "tokens", "texts", "settings", "interventions", "provenance"):
        for key, value in record[name].items():
            said[f"{name}: {key}"] = str(value)
    return said


def _estimate(row: Mapping[str, Any], name: str = "difference") -> str:
    if row[name] != row[name]:
        return NOT_SAID
    if row["low"] != row["low"]:
        return fixed(row[name], 4, True)
    return estimate(row[name], row["low"], row["high"])


def _point(row: Mapping[str, Any]) -> Point:
    shape = "circle" if row["side"] == "in domain" else "square"
    said = f"{row['condition']}, {row['side']}: {_estimate(row)}"
    return Point(row["difference"], row["low"], row["high"], SIDES[row["side"]], said, shape)


def _number(value: Any) -> str:
    return NOT_SAID if value is None or value != value else fixed(value, 4, True)


def _p(value: Any) -> str:
    return NOT_SAID if value is None or value != value else probability(value)


def _survives(row: Mapping[str, Any]) -> str:
    value = row["survives"]
    return (row["reason_2"] or NOT_SAID) if value is None else ("yes" if value else "no")
