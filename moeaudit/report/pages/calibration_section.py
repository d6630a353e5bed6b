"""The audit page's section on calibration, where the run's folder holds a calibration audit."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from moeaudit.errors import RunError
from moeaudit.runs.calibration.audit import RECORD, CalibrationTables

from .calibration_audit import stored_figures


def calibration_section(folder: Path, weights: str | None) -> Markup | None:
    """Sentences and figures of the calibration audit in `folder`; None if there is none.

    Raises RunError where it was made with other weights than the run (`weights`, their hash).
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    record = json.loads(path.read_text("utf-8"))
    theirs = record["provenance"].get("weights_sha256")
    if weights is not None and theirs is not None and theirs != weights:
        raise RunError(
            f"{path} was written for other weights ({theirs[:12]}) than this run ({weights[:12]}), so the two cannot "
            "stand on one page. Repeat calibration_audit with this run's model, or remove that file."
        )
    tables = {
        p.stem: pd.read_parquet(p) for p in sorted((folder / "calibration").glob("*.parquet"))
    }
    audit = CalibrationTables(tables, record)
    items = Markup("").join(Markup("<li>{}</li>").format(s) for s in audit.sentences())
    notes = Markup("").join(Markup("<li>{}</li>").format(n) for n in record["notes"])
    figures = Markup("").join(
        Markup(
            '<h3>{0}</h3><figure aria-label="{0}">{1}</figure><p class="caption">{2}</p>{3}'
        ).format(figure.title, figure.drawing, figure.caption, figure.table)
        for figure in stored_figures(audit)
    )
    return Markup("<ul>{}</ul>{}<ul>{}</ul>").format(items, figures, notes)
