"""Tables of calibration on the terminal, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from moeaudit.calibration import Predictions
    from moeaudit.frames import Frame

DASH = "-"
KEY = ("gap", "ece_mass_l1", "ece_debiased_documents", "smece", "kuiper")


def as_json(scores: Frame, bins: Frame, settings: dict[str, Any], **more: Any) -> str:
    """Both tables and the settings; missing numbers are null."""
    from moeaudit.version import __version__

    from ...terminal.document import plain

    tables = {
        name: json.loads(frame.to_json(orient="records", double_precision=15))
        for name, frame in (("scores", scores), ("reliability", bins))
    }
    said = {"command": "calibrate", "moeaudit": __version__, "settings": settings}
    return json.dumps({**said, **tables, **plain(more)}, indent=2, allow_nan=False)


def print_tables(
    predictions: Predictions,
    scores: Frame,
    bins: Frame,
    level: float,
    remarks: Sequence[str] = (),
) -> None:
    """Every score of all predictions, the reliability table, and one line a stratum."""
    from moeaudit.report.pages.calibration import headline

    from ...terminal.console import console, say

    screen = console()
    say(screen, headline(scores) + ".", "bold")
    for remark in remarks:
        say(screen, remark)
    say(screen, no_documents(predictions))
    whole = scores[scores["whole"]]
    if not whole["value"].isna().all():  # else the headline has said why, once for all scores
        screen.print(_scores(whole, level))
    screen.print(_bins(bins[bins["whole"]], level))
    groups = scores[~scores["whole"]]
    if len(groups):
        screen.print(_strata(groups, level))
        for line in left_out(groups):
            say(screen, line)
        say(screen, "Every score of every stratum is in the output of --json and --out.")


def no_documents(predictions: Predictions) -> str:
    """What is resampled, said aloud."""
    count = _count(len(predictions), "prediction")
    if predictions.document is None:
        return (
            f"{count}, no document column: each counts as independent. If they come from common texts, users "
            "or sessions, name that column with --document, or the limits are too narrow."
        )
    documents = _count(predictions.n_documents, "document")
    if predictions.n_documents == 1:
        return f"{count} of {documents}: nothing can be resampled."
    return f"{count} of {documents}, which are what is resampled."


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


def left_out(groups: Frame) -> list[str]:
    """Why a stratum has no scores: a line each, below the table, where its length squeezes no column."""
    gaps = groups[groups["score"] == "gap"].to_dict("records")
    return [f"{row['stratum']}: {row['reason']}." for row in gaps if _missing(row["value"])]


def _table(title: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title=title, title_justify="left"
    )


def _scores(scores: Frame, level: float) -> Table:
    table = _table("All predictions")
    table.add_column("score", no_wrap=True)
    for name in ("value", f"{level:.0%} limits", "by noise", "p", "p, documents"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("remark", overflow="fold")
    for row in scores.to_dict("records"):
        table.add_row(
            row["score"],
            _number(row["value"]),
            _limits(row["low"], row["high"]),
            _number(row["null_mean"]),
            _p(row["p"]),
            _p(row["p_documents"]),
            row["reason"] or "",
        )
    return table


def _bins(bins: Frame, level: float) -> Table:
    table = _table("Reliability, bins of equal mass")
    for name in (
        "confidence",
        "accuracy",
        "gap",
        f"{level:.0%} limits",
        "calibrated: accuracy in",
        "n",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for row in bins.to_dict("records"):
        table.add_row(
            _number(row["confidence"]),
            _number(row["accuracy"]),
            _number(row["gap"]),
            _limits(row["gap_low"], row["gap_high"]),
            _limits(row["band_low"], row["band_high"]),
            f"{row['n']:,}",
        )
    return table


def _strata(scores: Frame, level: float) -> Table:
    table = _table(f"By group: value and {level:.0%} limits")
    table.add_column("stratum", overflow="fold")
    table.add_column("n", justify="right", no_wrap=True)
    for name in ("gap", "limits", "ECE", "debiased", "limits", "p, doc."):
        table.add_column(name, justify="right", no_wrap=True)
    for name, part in scores.groupby("stratum", sort=False):
        row = {r["score"]: r for r in part.to_dict("records")}
        gap, debiased = row["gap"], row["ece_debiased_documents"]
        if _missing(gap["value"]):
            table.add_row(str(name), f"{gap['n']:,}", *[DASH] * 6)
            continue
        table.add_row(
            str(name),
            f"{gap['n']:,}",
            _number(gap["value"], "+"),
            _limits(gap["low"], gap["high"], "+"),
            _number(row["ece_mass_l1"]["value"]),
            _number(debiased["value"]),
            _limits(debiased["low"], debiased["high"]),
            _p(row["kuiper"]["p_documents"]),
        )
    return table


def _number(value: Any, sign: str = "") -> str:
    return DASH if _missing(value) else f"{value:{sign}.4f}"


def _limits(low: Any, high: Any, sign: str = "") -> str:
    if _missing(low) or _missing(high):
        return DASH
    return f"{_number(low, sign)} {_number(high, sign)}"


def _p(value: Any) -> str:
    return DASH if _missing(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _missing(value: Any) -> bool:
    import pandas as pd

    return value is None or value is pd.NA or bool(value != value)
