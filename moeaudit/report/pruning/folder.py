"""What `moeaudit prune --out` leaves behind: tables, page and record, all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moeaudit.pruning.export.place import made_whole
from moeaudit.runs.working.provenance import session
from moeaudit.store.files import write_json, write_table, write_text

from .page import write_pruning
from .words import headline, sentences

if TYPE_CHECKING:
    from moeaudit.pruning.result import PruneCurve

PAGE, RECORD = "pruning.html", "pruning.json"


def write_folder(curve: PruneCurve, folder: Path, asked: Mapping[str, Any]) -> Path:
    """Write every table as Parquet and CSV, the page and the record into a new folder; the page's path.

    `asked` is the command as it was given. Raises RunError where the disk takes no more.
    """
    tables = {
        "overview": curve.overview(),
        "costs": curve.table,
        "pairs": curve.pairs(),
        "interchangeability": curve.interchangeability(),
        "scores": curve.scores,
        "gone": curve.gone(),
    }
    record = {
        "model": curve.model,
        "answer": headline(curve),
        "sentences": sentences(curve),
        "notes": list(curve.notes),
        "asked": {name: value for name, value in asked.items() if value is not None},
        "texts": curve.texts,
        "whole_model_nll": curve.clean_nll,
        "seed": curve.boot.seed,
        "level": curve.level,
        "margin": curve.margin,
        "provenance": {"model": curve.provenance, **session()},
    }
    with made_whole(folder) as making:
        for name, table in tables.items():
            write_table(making / f"{name}.parquet", table)
            write_text(making / f"{name}.csv", table.to_csv(index=False))
        write_pruning(curve, making / PAGE, asked)
        write_json(making / RECORD, record)
    return folder / PAGE
