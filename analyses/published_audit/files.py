"""The released per-token results of arXiv 2606.10703: one JSON file a layer, read into cells."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moeaudit.errors import InputError

PUBLISHED = {
    "d_z": "cohens_d",
    "p_t": "paired_t_pval",
    "p_wilcoxon": "wilcoxon_pval",
    "mean_difference": "mean_difference",
}


# The control's file calls the same numbers otherwise.
PUBLISHED_CONTROL = {
    "d_z": "cohens_d",
    "p_t": "t_pval",
    "p_wilcoxon": "wilcoxon_pval",
    "mean_difference": "mean_diff",
}
CONTROL_FILES = (
    "routing_weight_control*_full*.json"  # the ones with the pairs; others are summaries
)
GATE_WEIGHT = "gate_weight"


@dataclass(frozen=True)
class Released:
    """One metric of one layer file, or the control of a layer: the pairs, their clusters, and what was
    published about them. `role` is "metric" or "control"."""

    model: str
    layer: int
    metric: str
    high: np.ndarray
    low: np.ndarray
    clusters: dict[str, np.ndarray]
    published: dict[str, float]
    n_bad: int
    role: str = "metric"


def read_folder(folder: Path) -> list[Released]:
    """All cells of the layer files in `folder`, or in its sub-folders, one model each, and behind them
    the control of the token's own gate weight where its pairs were released."""
    files = sorted(folder.glob("layer_*_results.json"))
    if files:
        cells = [c for f in files for c in read_file(f, folder.resolve().name)]
        return _distinct([*cells, *_controls(folder, folder.resolve().name)], folder)
    nested = sorted(folder.glob("*/layer_*_results.json"))
    if not nested:
        raise InputError(
            f"{folder} holds no layer_NN_results.json, and no sub-folder of it does. Point --data "
            "at a folder with the released per-token results of one model, or of several."
        )
    cells = [c for f in nested for c in read_file(f, f.parent.name)]
    for inner in dict.fromkeys(f.parent for f in nested):
        cells += _controls(inner, inner.name)
    return _distinct(cells, folder)


def _controls(folder: Path, model: str) -> list[Released]:
    return [c for f in sorted(folder.glob(CONTROL_FILES)) for c in read_control(f, model)]


def read_control(file: Path, model: str) -> list[Released]:
    """The control's cells: for each layer the pair with the largest and smallest gate weight of a token.

    The file is one object, LAYER -> n, mean_diff, cohens_d, t_pval, wilcoxon_pval, comparisons; a
    comparison has token_pos, high_expert, low_expert, their weights, losses and high_delta, low_delta. It
    does not say which text a token is of, and layers have tokens of their own.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        return [
            _released(model, int(layer["layer"]), GATE_WEIGHT, layer["comparisons"],
                      layer, PUBLISHED_CONTROL, "control")
            for layer in data.values()
        ]  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{file} does not have the released format of the control ({type(error).__name__}: {error}). "
            "Expected LAYER -> layer, comparisons, a list with high_delta and low_delta."
        ) from error


def _distinct(cells: list[Released], folder: Path) -> list[Released]:
    """Refuse files that give one cell twice: a family would count it twice."""
    seen: set[tuple[str, int, str]] = set()
    for cell in cells:
        key = (cell.model, cell.layer, cell.metric)
        if key in seen:
            raise InputError(
                f"{folder} gives layer {cell.layer}, {cell.metric} of {cell.model} in two files (their "
                "`layer_idx` says so). Keep one file for each layer."
            )
        seen.add(key)
    return cells


def read_file(file: Path, model: str) -> list[Released]:
    """The cells of one layer file."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        found = re.search(r"layer_(\d+)_results", file.name)
        layer = int(data.get("layer_idx", found.group(1) if found else -1))
        return [
            read_cell(model, layer, str(name), result)
            for name, result in data["metric_results"].items()
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{file} does not have the released format ({type(error).__name__}: {error}). Expected "
            "metric_results -> METRIC -> comparisons, a list with high_delta and low_delta."
        ) from error


def read_cell(model: str, layer: int, metric: str, result: dict[str, Any]) -> Released:
    numbers = result.get("statistics") or {}
    return _released(model, layer, metric, result["comparisons"], numbers, PUBLISHED, "metric")


def _released(
    model: str,
    layer: int,
    metric: str,
    rows: list[dict[str, Any]],
    numbers: dict[str, Any],
    names: dict[str, str],
    role: str,
) -> Released:
    high = np.array([float(r["high_delta"]) for r in rows])
    low = np.array([float(r["low_delta"]) for r in rows])
    good = np.isfinite(high) & np.isfinite(low)
    clusters = {"token": np.arange(len(rows))}
    if rows and all("sample_idx" in r for r in rows):
        clusters["sample_idx"] = np.array([int(r["sample_idx"]) for r in rows])
    if rows and all("global_token_idx" in r and "seq_position" in r for r in rows):
        # Where the row of a position begins in the flattened batches: the same for one text only.
        clusters["text"] = np.array([r["global_token_idx"] - r["seq_position"] for r in rows])
    published = {
        ours: float(numbers[theirs])
        for ours, theirs in names.items()
        if numbers.get(theirs) is not None
    }
    kept = {k: v[good] for k, v in clusters.items()}
    bad = int((~good).sum())
    return Released(model, layer, metric, high[good], low[good], kept, published, bad, role)
