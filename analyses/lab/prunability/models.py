"""Signs and losses of each model: a census of a few documents, then what pruning costs on others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import moeaudit as ma
from moeaudit.pruning.forecast import SIGNS, signs_of
from moeaudit.store.files import write_json
from moeaudit.text.choice import beginnings
from moeaudit.text.for_model import tokens_for

KEEP = {0.75: "lost_25", 0.5: "lost_50"}


@dataclass(frozen=True)
class Asked:
    """What every model is asked: documents of each domain and their first tokens, for the signs and for the losses."""

    signs: int
    signs_tokens: int
    losses: int
    losses_tokens: int
    criterion: str

    @property
    def words(self) -> str:
        return (
            f"{self.signs}x{self.signs_tokens}-{self.losses}x{self.losses_tokens}-{self.criterion}"
        )


def row_of(recipe: str, seed: int, folder: str | Path, asked: Asked, kept: Path) -> dict[str, Any]:
    """One model's row, read back from `kept` where it was measured before with the same question."""
    # A pool's folder is named by the hash of its recipe, so a model of another recipe is measured anew.
    place = kept / f"{Path(folder).name}--{seed}--{asked.words}.json"
    if place.exists():
        return json.loads(place.read_text("utf-8"))
    model = ma.load(str(folder))
    test, other = (ma.corpus("bundled", split=split) for split in ("test", "calibration"))
    few = beginnings(
        tokens_for(model, other.sample(asked.signs, seed=0, per_domain=True)), asked.signs_tokens
    )[0]
    many = beginnings(
        tokens_for(model, test.sample(asked.losses, seed=0, per_domain=True)), asked.losses_tokens
    )[0]
    signs = signs_of(model, few)
    # The criterion is computed on the documents of the census: a forecast is asked before others are read.
    curve = ma.prune_curve(
        model, many, asked.criterion, tuple(KEEP), calibration=few, draws=0, seed=0
    )
    table: Any = curve.table
    row: dict[str, Any] = {"recipe": recipe, "seed": seed, **signs.values}
    row |= {"clean_nll": curve.clean_nll, "experts": signs.experts, "top_k": signs.top_k}
    for keep, name in KEEP.items():
        cell = table[table["keep"] == keep].iloc[0]
        row |= {
            name: float(cell["d_nll"]),
            f"{name}_low": float(cell["low"]),
            f"{name}_high": float(cell["high"]),
        }
    row["reasons"] = signs.reasons
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(place, row)
    return row


def measured(
    models: list[tuple[str, int, str]], asked: Asked, kept: Path, say: Callable[[str], None]
) -> Any:
    """One row a model of `models` (recipe, seed, folder); those of one active expert a token are left to the caller."""
    rows = []
    for n, (recipe, seed, folder) in enumerate(models):
        row = row_of(recipe, seed, folder, asked, kept)
        rows.append(row)
        lost = " and ".join(f"{row[name]:.3f}" for name in KEEP.values())
        say(f"{n + 1} of {len(models)}: {recipe}, seed {seed}: {lost} nats lost at 25 and 50 %")
    frame = pd.DataFrame(rows)
    return frame[
        ["recipe", "seed", *SIGNS, *(c for c in frame if c not in {"recipe", "seed", *SIGNS})]
    ]
