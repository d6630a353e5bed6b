"""`moeaudit calibrate FILE`: calibration of any model's predictions, from a table of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from moeaudit.errors import InputError

from ...options import Force
from ...terminal.document import Json
from ...terminal.examples import examples


@examples(
    "moeaudit calibrate predictions.csv",
    "moeaudit calibrate predictions.parquet --confidence p --correct right --document text",
    "moeaudit calibrate predictions.csv --group language --out calibration",
    "moeaudit calibrate predictions.csv --json > scores.json",
)
def calibrate(
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV, JSON Lines or Parquet, one row a prediction: confidence in [0, 1], correct "
            "(true/false, T/F, yes/no, pass/fail or 1/0), and if there are any group, document, weight."
        ),
    ],
    confidence: Annotated[str | None, typer.Option(help="What the column is called.")] = None,
    correct: Annotated[str | None, typer.Option(help="What the column is called.")] = None,
    group: Annotated[str | None, typer.Option(help="A column of strata.")] = None,
    document: Annotated[
        str | None,
        typer.Option(
            help="A column of independent units: predictions of one document "
            "may depend on each other."
        ),
    ] = None,
    weight: Annotated[str | None, typer.Option(help="A column of importance weights.")] = None,
    bins: Annotated[int, typer.Option(help="Bins of the binned scores.")] = 15,
    draws: Annotated[int, typer.Option(help="Resamples for limits and p-values.")] = 1000,
    level: Annotated[float, typer.Option(help="Of the limits.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the resamples.", min=0)] = 0,
    json: Json = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A folder for calibration.html and the tables as Parquet and CSV.",
            show_default=False,
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Score the calibration of the predictions in FILE, whatever model they come from."""
    from moeaudit.calibration import calibration_scores, reliability
    from moeaudit.calibration.predictions.files import read_with_remarks
    from moeaudit.calibration.scores.scores import check_settings

    from ...options import writable
    from ...terminal.console import console
    from ...terminal.progress import ConsoleProgress, counted
    from .folder import check_folder, require_same, write_calibration
    from .tables import as_json, print_tables

    if file.is_dir():
        raise InputError(_folder(file))
    if out is not None:
        check_folder(out)
        writable(out, "--out", folder=True)
    check_settings(bins, draws, level)
    named = {
        "confidence": confidence,
        "correct": correct,
        "group": group,
        "document": document,
        "weight": weight,
    }
    columns = {role: name for role, name in named.items() if name is not None}
    predictions, remarks = read_with_remarks(file, columns)
    settings = {"bins": bins, "draws": draws, "seed": seed, "level": level}
    asked: dict[str, Any] = settings
    if out is not None and not force:
        require_same(out, file, settings, columns)
    with ConsoleProgress(console(stderr=True)) as progress:
        scores = calibration_scores(predictions, **asked, progress=counted(progress, "scores"))
        table = reliability(predictions, **asked, progress=counted(progress, "reliability"))
    page = None
    if out is not None:
        page = write_calibration(out, file, predictions, scores, table, settings, columns, remarks)
    if json:
        typer.echo(as_json(scores, table, settings, remarks=remarks, report=page))
    else:
        print_tables(predictions, scores, table, level, remarks)
        if page is not None:
            typer.echo(f"Report: {page}")


def _folder(folder: Path) -> str:
    """What to do with a folder, and with a run's most of all."""
    if (folder / "audit.json").is_file():
        return (
            f"{folder} is a run folder, and calibrate scores one table of predictions. The calibration of the audited "
            f"model stands on the run's page: moeaudit open {folder}."
        )
    return (
        f"{folder} is a folder, and calibrate scores one table: a CSV, JSON Lines or Parquet file."
    )
