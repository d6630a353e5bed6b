"""One run as a side of a comparison: its name, its documents, and its effects summed by document and cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError, RunError, one_of
from moeaudit.frames import Frame
from moeaudit.runs.run import StoredRun
from moeaudit.stats.clustered import Clustered
from moeaudit.stats.contrast.checks import OUTCOMES, finite
from moeaudit.stats.difference.columns import Sums
from moeaudit.store.files import read_table

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NO_EXPERT = -1


@dataclass(frozen=True)
class Side:
    """A run under its letter. `name` is what tells it from the others, in a few words."""

    letter: str
    name: str
    run: StoredRun

    @property
    def depth(self) -> int:
        """How many decoder layers the model has, as far as the run says."""
        known = self.run.record["model"].get("decoder_layers")
        return int(known or max(self.run.spec.layers) + 1)

    @cached_property
    def experts(self) -> dict[int, int]:
        """Experts of each audited layer."""
        found = self.run.record["model"]["num_experts"]
        return {layer: int(found[str(layer)]) for layer in self.run.spec.layers}

    @cached_property
    def documents(self) -> dict[int, str]:
        """The identity (SHA-256 of the text) of each document that effects were measured on, by its number."""
        return document_ids(self.run)

    @property
    def per_expert(self) -> bool:
        return self.run.question.per_expert


def opened(run: Any) -> StoredRun:
    """A run, or the folder of one. Raises RunError for a folder that holds none, one that is not finished or damaged,
    and InputError for anything else."""
    if isinstance(run, StoredRun):
        return run
    if not isinstance(run, (str, Path)):
        raise InputError(
            "A run (what moeaudit.audit gives, or Run.load) or its folder was expected, and this is a "
            f"{type(run).__name__}."
        )
    return StoredRun.load(run)


def named(runs: Sequence[StoredRun]) -> list[str]:
    """A name for each run: what differs among models, operators, weights, kinds of number and samples; where nothing
    does, or too little, the folder."""
    parts = [
        [run.spec.model for run in runs],
        [str(run.question) for run in runs],
        [f"weights {run.spec.weights[:8]}" for run in runs],
        [run.spec.dtype for run in runs],
        [f"{run.spec.effect_documents} documents" for run in runs],
    ]
    telling = [words for words in parts if len(set(words)) > 1]
    if len(set(parts[0])) > 1:  # other models have other weights: their names say it
        telling = [words for words in telling if words is not parts[2]]
    names = [", ".join(words) for words in zip(*telling)] if telling else [""] * len(runs)
    if len(set(names)) == len(runs):
        return names
    return [
        ", ".join(word for word in (name, str(run.folder)) if word)
        for name, run in zip(names, runs)
    ]


def document_ids(run: StoredRun) -> dict[int, str]:
    """Number and identity of each effect document. Raises RunError where the table does not say."""
    table = read_table(run.folder / "documents.parquet")
    if lacking := {"role", "document", "id"} - set(table.columns):
        raise RunError(
            f"{run.folder / 'documents.parquet'} has no column {', '.join(sorted(lacking))}, so that its documents "
            "cannot be told from another run's. It was written by another version: run the audit again into a new "
            "folder."
        )
    read = table[table["role"] == "effects"]
    return {int(number): str(name) for number, name in zip(read["document"], read["id"])}


def columns_needed(outcomes: list[str]) -> list[str]:
    """Columns of the effects that outcomes are read from."""
    return list(dict.fromkeys(name.removeprefix("abs_") for name in outcomes))


def summed(side: Side, outcomes: list[str]) -> Frame:
    """One row per (id, layer, expert): the sum of each outcome and `n` rows, in one pass over the shards.

    `expert` is -1 where rows are not about one active expert each. Raises RunError for a run without effects.
    """
    needed = columns_needed(outcomes)
    clustered = Clustered(by=["layer", "expert"], values=outcomes)
    parts = []
    for frame in side.run.shards.frames(["document", "layer", "expert", *needed]):
        values: dict[str, Any] = {}
        for name in outcomes:
            column = frame[name.removeprefix("abs_")].to_numpy(np.float64, na_value=np.nan)
            finite(column, f"The column {name.removeprefix('abs_')} of {side.run.folder}", "rows")
            values[name] = np.abs(column) if name.startswith("abs_") else column
        keys: Frame = frame[["document", "layer", "expert"]]
        if not side.per_expert:
            keys = keys.assign(expert=NO_EXPERT)
        parts.append(clustered.sums(keys.assign(**values)))
    if not sum(len(part) for part in parts):
        raise RunError(
            f"{side.run.folder / 'effects'} holds no effects, so there is nothing to compare. Run the same audit "
            "command again to complete the folder."
        )
    table: Frame = pd.concat(parts, ignore_index=True)
    unknown = sorted(set(table["document"].astype(int)) - set(side.documents))
    if unknown:
        raise RunError(
            f"The effects in {side.run.folder} name document {unknown[0]}, and documents.parquet does not. The folder "
            "is damaged: run the audit again into a new one."
        )
    return table.assign(id=table["document"].map(side.documents)).drop(columns="document")


def sums_of(table: Frame, ids: list[str], cells: list[tuple[int, int]], outcome: str) -> Sums:
    """`summed` as arrays over documents (`ids`) and cells, (layer, expert); what is not among them is left out."""
    rows = pd.Index(ids).get_indexer(table["id"])
    keys = pd.MultiIndex.from_arrays([table["layer"].astype(int), table["expert"].astype(int)])
    place = pd.MultiIndex.from_tuples(cells).get_indexer(keys)
    use = (rows >= 0) & (place >= 0)
    total, count = (np.zeros((len(ids), len(cells))) for _ in range(2))
    at = (rows[use], place[use])
    np.add.at(total, at, table[outcome].to_numpy(float)[use])
    np.add.at(count, at, table["n"].to_numpy(float)[use])
    return Sums(total, count)


def require_outcomes(sides: list[Side], asked: list[str]) -> list[str]:
    """The outcomes, if every run has measured them. Raises InputError for an unknown one, RunError for one a run
    lacks."""
    if not asked:
        raise InputError("No outcome was named. Name one or several, such as delta_nll,kl.")
    for name in asked:
        one_of(name, OUTCOMES, "outcome")
        for side in sides:
            if name.removeprefix("abs_") not in side.run.question.outcomes:
                raise RunError(
                    f"{side.run.folder} has not measured {name}: it holds {', '.join(side.run.question.outcomes)}. "
                    "Choose among what all runs hold (--outcome), or audit again with it."
                )
    return list(dict.fromkeys(asked))
