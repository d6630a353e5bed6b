"""What `moeaudit calibrate --out` leaves behind: tables, page and record, all of them or none."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moeaudit.errors import RunError
from moeaudit.frames import Frame
from moeaudit.report.pages.calibration import render_calibration
from moeaudit.store.files import write_json, write_table, write_text

if TYPE_CHECKING:
    from moeaudit.calibration import Predictions

RECORD = "calibration.json"
PAGE = "calibration.html"


def check_folder(folder: Path) -> None:
    """Refuse a folder in which something else would be mixed with these files."""
    if folder.is_file():
        raise RunError(
            f"{folder} is a file; --out needs a folder, which is made if it is not there."
        )
    if folder.is_dir() and any(folder.iterdir()) and not (folder / RECORD).is_file():
        raise RunError(
            f"{folder} holds other files and no {RECORD}, so it is not an output of moeaudit "
            "calibrate. Nothing was written. Choose an empty or a new folder."
        )


def require_same(
    folder: Path, source: Path, settings: Mapping[str, Any], columns: Mapping[str, str]
) -> None:
    """Refuse to write over scores of another table, or of the same one asked otherwise (`--force` does)."""
    if not (folder / RECORD).is_file():
        return
    try:
        there = json.loads((folder / RECORD).read_text(encoding="utf-8"))["provenance"]
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise RunError(
            f"{folder / RECORD} cannot be read ({error}), so it is not known what it is of. Give --force to write "
            "over it, or choose another folder."
        ) from error
    mine = _asked(source, settings, columns)
    different = [name for name, value in mine.items() if there.get(name) != value]
    if different:
        raise RunError(
            f"{folder} holds the calibration of {there.get('file')}, which differs from what is asked now in "
            f"{', '.join(different)}. Nothing was written. Give --force to write over it, or choose another folder."
        )


def _asked(source: Path, settings: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, str]:
    """What makes two calibrations the same: the file's content, its columns, the settings."""
    return {
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "columns": ", ".join(f"{k}: {v}" for k, v in columns.items()) or "called by their roles",
        **{name: str(value) for name, value in settings.items()},
    }


def write_calibration(
    folder: Path,
    source: Path,
    predictions: Predictions,
    scores: Frame,
    bins: Frame,
    settings: Mapping[str, Any],
    columns: Mapping[str, str],
    read: Sequence[str] = (),
) -> Path:
    """Write scores and reliability as Parquet and CSV, the record and the page; the page's path.

    `read` says what must be known of how the file was read.

    Everything is made in a folder beside the wanted one, which takes its place at the end.
    """
    from moeaudit.calibration.scores.scores import MEANING
    from moeaudit.version import __version__

    check_folder(folder)
    asked = _asked(source, settings, columns)
    first = {"file": source.name, "sha256": asked["sha256"], "moeaudit": __version__}
    provenance = first | asked
    record = {
        "title": source.name,
        "level": settings["level"],
        "draws": settings["draws"],
        "remarks": [*read, *remarks(predictions)],
        "provenance": provenance,
    }
    page = render_calibration(scores, bins, MEANING, record)
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = folder.with_name(f".writing-{os.getpid()}-{folder.name}")
    try:
        making.mkdir()
        for name, table in (("scores", scores), ("reliability", bins)):
            write_table(making / f"{name}.parquet", table)
            write_text(making / f"{name}.csv", table.to_csv(index=False))
        write_text(making / PAGE, page)
        write_json(making / RECORD, record)
        _replace(making, folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder / PAGE


def remarks(predictions: Predictions) -> list[str]:
    """What a reader must know about the file before reading any number."""
    out = []
    if predictions.document is None:
        out.append(
            "The file names no documents, so every prediction counts as independent. If predictions share texts, "
            "users or sessions, the limits here are too narrow."
        )
    if predictions.weight is not None:
        out.append(
            f"Weighted: {len(predictions):,} predictions count like "
            f"{predictions.n_effective:,.0f} of equal weight (Kish)."
        )
    return out


def _replace(making: Path, folder: Path) -> None:
    if not folder.exists():
        making.rename(folder)
        return
    for path in sorted(making.iterdir(), key=lambda p: p.name == RECORD):  # the record last
        path.replace(folder / path.name)
