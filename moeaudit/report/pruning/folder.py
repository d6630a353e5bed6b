"""What `moeaudit prune --out` leaves behind: tables, page and record, all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moeaudit.errors import RunError
from moeaudit.pruning.export.place import made_whole, require_new
from moeaudit.runs.working.provenance import session
from moeaudit.store.files import write_json, write_table, write_text

from .forecast import beside_measured
from .page import write_pruning
from .words import headline, sentences

if TYPE_CHECKING:
    from moeaudit.pruning.forecast import Forecast
    from moeaudit.pruning.result import PruneCurve

PAGE, RECORD = "pruning.html", "pruning.json"


def require_place(folder: Path, what: str = "", *, replace: bool = False) -> None:
    """Raise RunError unless `folder` is new or empty, or holds an earlier output of this and may be replaced."""
    ours = folder.is_dir() and (folder / RECORD).is_file()
    if ours and replace:
        return
    try:
        require_new(folder, what)
    except RunError as error:
        if ours:
            raise RunError(
                f"{f'{what} {folder}'.strip()} holds a pruning that was measured before. Nothing was written. Give "
                "--force to write over it, or choose an empty or a new folder."
            ) from error
        raise


def write_folder(
    curve: PruneCurve,
    folder: Path,
    asked: Mapping[str, Any],
    *,
    replace: bool = False,
    forecast: Forecast | None = None,
) -> Path:
    """Write every table as Parquet and CSV, the page and the record into a new folder; the page's path.

    `asked` is the command as it was given; with `replace` an earlier output of this is written over. A forecast that
    was made before stands beside what was measured. Raises RunError where the disk takes no more.
    """
    require_place(folder, replace=replace)
    tables = {
        "overview": curve.overview(),
        "costs": curve.table,
        "pairs": curve.pairs(),
        "interchangeability": curve.interchangeability(),
        "scores": curve.scores,
        "gone": curve.gone(),
    }
    if forecast is not None:
        tables |= {"forecast": beside_measured(forecast, curve), "signs": forecast.ranges}
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
    if forecast is not None:
        told = forecast.to_dict()
        record["forecast"] = {k: v for k, v in told.items() if k not in ("loss", "signs")}
    full = folder.is_dir() and any(folder.iterdir())
    whole = folder.with_name(f".writing-new-{folder.name}") if full else folder
    with made_whole(whole) as making:
        for name, table in tables.items():
            write_table(making / f"{name}.parquet", table)
            write_text(making / f"{name}.csv", table.to_csv(index=False))
        write_pruning(curve, making / PAGE, asked, forecast)
        write_json(making / RECORD, record)
    if full:
        for path in sorted(
            whole.iterdir(), key=lambda each: each.name == RECORD
        ):  # the record last
            path.replace(folder / path.name)
        whole.rmdir()
    return folder / PAGE
