"""The models that a forecast learns from: a table of signs and losses, and what is written beside it."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError
from moeaudit.frames import Frame
from moeaudit.version import __version__

from .fit import fragile, require_recipes
from .signs import SIGNS

FORMAT = 1  # of what stands beside a table
SHIPPED = Path(__file__).with_name("models.csv")
TARGETS = {"lost_25": 0.75, "lost_50": 0.5}  # column of the table: share of the experts that stays
NAME = "the table that comes with moeaudit"
MAKER = "python -m analyses.lab.prunability"


@dataclass(frozen=True)
class Known:
    """One row a model: `recipe`, `SIGNS`, `lost_25` and `lost_50` (nats a token), `parameters` where they are known.

    `about` is what stands beside the table: the criterion that pruned, how much text the signs were read on,
    versions, the recipes' hashes; empty for a table alone.
    """

    frame: Frame
    name: str
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def recipes(self) -> int:
        return int(self.frame["recipe"].nunique())

    @property
    def criterion(self) -> str | None:
        return self.about.get("criterion")

    def rests_on(self, target: str, signs: Sequence[str]) -> dict[str, Any] | None:
        """The one recipe without which `signs` are not shown to gain on the mean: `recipe`, `gain`, `gain_low`,
        `gain_high`; None where there is no such recipe. As the record says of all signs, else by `fragile`."""
        found = self.about.get("without", {}).get(target)
        if found is None or len(signs) < len(SIGNS):
            found = fragile(self.frame, target, signs)
        return found if found["gain_low"] is None or not found["gain_low"] > 0 else None

    def amount(self, of: str, otherwise: int) -> int:
        """`documents` or `tokens` that the signs of the table were read on; `otherwise` where it does not say."""
        return int(self.about.get(of, {}).get("signs", otherwise))


def known(table: Any = None) -> Known:
    """The table to learn from: the one of the package if None, a DataFrame, or a CSV file as the analysis writes it.

    Raises InputError for a file that is not there or no such table, for columns that are missing or hold no number,
    for models of fewer than 5 recipes, and for a table of another version of the signs or one that was changed
    since its record was written beside it.
    """
    if isinstance(table, Known):
        return table
    if isinstance(table, pd.DataFrame):
        return Known(_checked(table, "the table"), "the table")
    path = SHIPPED if table is None else Path(table)
    named = NAME if table is None else str(path)
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(
            f"The table of a forecast cannot be read at {str(path)!r} ({why}). Give the models.csv that {MAKER} "
            "writes, or none for the table that comes with the package."
        ) from None
    try:
        frame = pd.read_csv(io.BytesIO(content))
    except (ValueError, pd.errors.ParserError) as error:  # not UTF-8, empty, or no table
        raise InputError(
            f"{named} is no table of comma-separated values ({' '.join(str(error).split())}). Give the models.csv that "
            f"{MAKER} writes."
        ) from None
    about = _beside(path, named, content)
    return Known(_checked(frame, named), named, about)


def record_of(content: bytes, **about: Any) -> dict[str, Any]:
    """What is written beside a table of these bytes, as `models.json` beside `models.csv`."""
    return {
        "format": FORMAT,
        "moeaudit": __version__,
        "sha256": hashlib.sha256(content).hexdigest(),
        "signs": SIGNS,
        **about,
    }


def _beside(path: Path, named: str, content: bytes) -> dict[str, Any]:
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return {}
    try:
        about = json.loads(beside.read_text("utf-8"))
        made = about["moeaudit"], about["format"], about["signs"], about["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{beside} is not the record of a table of a forecast. Make both again with {MAKER}, or take it away to "
            f"learn from {path.name} alone."
        ) from None
    version, number, signs, digest = made
    other = [name for name, says in SIGNS.items() if number == FORMAT and signs.get(name) != says]
    if number != FORMAT or other:
        what = f"means something else by {', '.join(other)}" if other else f"has format {number}"
        raise InputError(
            f"{named} was written by moeaudit {version} and {what}; this is moeaudit {__version__}, with format "
            f"{FORMAT}. Signs of two kinds are not compared: make it again with {MAKER}."
        )
    if digest != hashlib.sha256(content).hexdigest():
        raise InputError(
            f"{named} is not the table that {beside.name} beside it is about: it was changed since. Make both again "
            f"with {MAKER}, or take {beside.name} away to learn from what the table says now."
        )
    return about


def _checked(frame: Any, named: str) -> Frame:
    missing = [name for name in ("recipe", *TARGETS, *SIGNS) if name not in frame.columns]
    if missing:
        raise InputError(
            f"The table of a forecast lacks {', '.join(missing)} ({named}). It needs recipe, {', '.join(TARGETS)} and "
            f"the signs {', '.join(SIGNS)}, one row a model, as the models.csv of {MAKER} has them."
        )
    frame = frame.copy()
    for name in (*TARGETS, *SIGNS, *(["parameters"] if "parameters" in frame else [])):
        numbers: Any = pd.to_numeric(frame[name], errors="coerce")
        wrong = (numbers.isna() & frame[name].notna()) | np.isinf(numbers)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise InputError(
                f"{named}: {name} of row {row + 1} is {frame[name].tolist()[row]!r}, and a finite number was expected."
            )
        frame[name] = numbers
    if frame["recipe"].isna().any():
        row = int(np.flatnonzero(frame["recipe"].isna())[0])
        raise InputError(f"{named}: row {row + 1} names no recipe, and every model is of one.")
    require_recipes(frame["recipe"].nunique())
    return frame
