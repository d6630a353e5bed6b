"""The page of a pruning curve: one HTML file without fonts or network, complete without scripts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moeaudit.runs.working.folder import check_report_path
from moeaudit.runs.working.provenance import now, package_versions
from moeaudit.store.files import write_text

from ..pages.tables import folded
from ..pages.template import templates, with_tables
from ..words.numbers import count, fixed, percent
from .figure import costs_figure
from .forecast import forecast_section
from .tables import between_tables, costs_table, gone_tables, limits_table
from .words import headline, sentences

if TYPE_CHECKING:
    from moeaudit.pruning.forecast import Forecast
    from moeaudit.pruning.result import PruneCurve


def write_pruning(
    curve: PruneCurve,
    path: Path,
    asked: Mapping[str, Any] | None = None,
    forecast: Forecast | None = None,
) -> Path:
    """Write the page atomically. Raises RunError if `path` is taken by anything but a page of ours.

    `asked` is what the curve was asked, for the provenance; a forecast made before has a section of its own.
    """
    check_report_path(path)
    write_text(path, render_pruning(curve, asked, forecast))
    return path


def render_pruning(
    curve: PruneCurve, asked: Mapping[str, Any] | None = None, forecast: Forecast | None = None
) -> str:
    """The page as text. Names of models, domains and rankings are escaped."""
    page = (
        templates()
        .get_template("pruning.html.j2")
        .render(
            **with_tables(),
            model=curve.model,
            headline=headline(curve),
            sentences=sentences(curve),
            notes=curve.notes,
            facts=_facts(curve),
            figure=costs_figure(curve, folded("KL and all limits", limits_table(curve))),
            costs=costs_table(curve),
            gone=gone_tables(curve),
            between=between_tables(curve),
            forecast=None if forecast is None else forecast_section(forecast, curve),
            provenance=_provenance(curve, asked or {}),
            percent=percent(curve.level, 0),
            margin=f"{curve.margin:g}",
        )
    )
    return page + "\n"


def _facts(curve: PruneCurve) -> list[dict[str, str]]:
    sums = curve.boot.sums
    table: Any = curve.overview()
    draws = int(table["draws"].max()) if "draws" in table else 0
    layers = len(curve.experts)
    return [
        {"name": "whole model's loss", "value": fixed(curve.clean_nll, 4), "note": "nats a token"},
        {
            "name": "whole model's perplexity",
            "value": fixed(np.exp(curve.clean_nll), 3),
            "note": "",
        },
        {
            "name": "evaluated documents",
            "value": count(len(sums.document)),
            "note": f"{count(sums.count.sum())} tokens",
        },
        {
            "name": "experts",
            "value": count(sum(curve.experts.values())),
            "note": f"in {layers} MoE layers; {count(curve.n_calibration)} calibration documents, "
            f"{draws} random draws",
        },
    ]


def _provenance(curve: PruneCurve, asked: Mapping[str, Any]) -> dict[str, str]:
    said = {"written": now()}
    said |= {name: str(value) for name, value in asked.items() if value is not None}
    for side, about in curve.texts.items():
        said[f"{side} documents"] = (
            f"{about['documents']:,}, {about['tokens']:,} predicted tokens, SHA-256 of the tokens {about['sha256']}"
        )
    said |= {f"model: {k}": str(v) for k, v in curve.provenance.items() if v is not None}
    said["seed"] = str(curve.boot.seed)
    said["resamplings of documents"] = count(len(curve.boot.weights) - 1)
    versions = {k: v for k, v in package_versions().items() if v is not None}
    said["packages"] = ", ".join(f"{k} {v}" for k, v in versions.items())
    return said
