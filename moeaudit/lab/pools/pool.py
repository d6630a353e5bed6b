"""A pool of trained models: arms by seeds, one folder each, trained when first asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from moeaudit.errors import InputError, one_of
from moeaudit.frames import Frame
from moeaudit.frames.waiting import stages
from moeaudit.seeds import check_seed

from ..finished.folder import card_of, require_text
from ..recipes.arms import ARMS, recipe
from ..recipes.whole import Recipe

VARIABLE = "MOEAUDIT_LAB"


def default_folder() -> Path:
    """Where pools are kept: `$MOEAUDIT_LAB`, or `~/.cache/moeaudit/lab`."""
    named = os.environ.get(VARIABLE, "").strip()
    return Path(named).expanduser() if named else Path.home() / ".cache" / "moeaudit" / "lab"


@dataclass(frozen=True)
class Pool:
    """Models of `arms` and `seeds` in `folder`; what is missing is trained when it is asked for.

    A model's folder is named by arm, seed and the hash of its recipe, so a recipe that changes gets a new one. Text
    that has changed since a model was trained is no part of the hash: `get`, `missing`, `train` and `models` then
    raise RunError, naming both digests.
    `quick` pools are of small, short recipes whose numbers mean nothing.
    """

    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    folder: Path
    quick: bool = False
    device: str = "cpu"

    def recipe(self, arm: str, seed: int) -> Recipe:
        """The recipe of an arm of this pool. Raises InputError for an arm or seed that is not in it."""
        one_of(arm, self.arms, "arm of this pool")
        one_of(seed, self.seeds, "seed of this pool")
        return recipe(arm, quick=self.quick, seed=seed)

    def place(self, arm: str, seed: int) -> Path:
        """Where a model is or will be."""
        return self.folder / f"{arm}--{seed}--{self.recipe(arm, seed).hash[:10]}"

    def get(self, arm: str, seed: int, progress: Any = None) -> Path:
        """The folder of a trained model; trains it, or goes on with it, if it is not finished.

        Raises InputError and RunError as `lab.train`.
        """
        from ..trainer import train

        place = self.place(arm, seed)
        if self._card(arm, seed) is None:
            train(self.recipe(arm, seed), place, progress=progress, device=self.device)
        return place

    @property
    def missing(self) -> list[tuple[str, int]]:
        """The (arm, seed) that are not trained yet, in the order in which `train` takes them."""
        every = [(arm, seed) for seed in self.seeds for arm in self.arms]
        return [each for each in every if self._card(*each) is None]

    def _card(self, arm: str, seed: int) -> dict[str, Any] | None:
        """The card of a finished model, None without one. Raises RunError for one of other text."""
        place = self.place(arm, seed)
        card = card_of(place)
        if card is not None:
            require_text(place, self.recipe(arm, seed))
        return card

    def train(self, progress: Any = None) -> Pool:
        """Train whatever is missing, one model after the other: first every arm with the first seed."""
        left = self.missing
        with stages(progress) as told:
            for n, (arm, seed) in enumerate(left):
                told.note(f"{arm}, seed {seed}: {n + 1} of {len(left)}")
                self.get(arm, seed, told)
        return self

    @property
    def models(self) -> Frame:
        """One row a trained model: arm, seed, folder, nll (held out, nats a token), parameters, tokens, seconds."""
        rows = []
        for arm in self.arms:
            for seed in self.seeds:
                card = self._card(arm, seed)
                if card is not None:
                    rows.append(row_of(arm, seed, self.place(arm, seed), card))
        return pd.DataFrame(rows, columns=list(COLUMNS))


COLUMNS = (
    "arm",
    "seed",
    "folder",
    "nll",
    "entropy",
    "balance",
    "total",
    "active",
    "unique",
    "tokens",
    "steps",
    "seconds",
)


def row_of(arm: str, seed: int, place: Path, card: dict[str, Any]) -> dict[str, Any]:
    """A row of `Pool.models` from a card; entropy and balance are means over layers, None without routers."""
    layers = card["layers"]
    means = {
        key: sum(row[key] for row in layers) / len(layers) if layers else None
        for key in ("entropy", "balance")
    }
    told = {key: card[key] for key in ("nll", "tokens", "steps", "seconds")}
    return {"arm": arm, "seed": seed, "folder": str(place), **told, **means, **card["parameters"]}


def pool(
    arms: Iterable[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    folder: str | Path | None = None,
    *,
    quick: bool = False,
    device: str = "cpu",
) -> Pool:
    """The pool of these arms and seeds; nothing is trained until a model is asked for.

    Parameters
    ----------
    arms
        Names of `lab.ARMS`; those that this version can train if None.
    seeds
        One model a seed and arm.
    folder
        Where models are kept: `$MOEAUDIT_LAB` or `~/.cache/moeaudit/lab` if None.
    quick
        Small models and a dozen steps: the machinery, no result.
    device
        Where they are trained.

    Raises InputError for an arm that does not exist or cannot be trained by this version, and for seeds that are
    repeated or no whole numbers.
    """
    chosen = [a for a in ARMS if ARMS[a].lacks is None] if arms is None else list(arms)
    if isinstance(arms, str):
        raise InputError(f"arms is a list of names: write [{arms!r}], not {arms!r}.")
    for name in chosen:
        recipe(name, quick=quick)  # refuses what cannot be trained, before anything is
    numbers = tuple(check_seed(seed) for seed in seeds)
    for what, given in (("arms", chosen), ("seeds", numbers)):
        if not given or len(set(given)) < len(given):
            raise InputError(f"{what} = {list(given)}: at least one, and none of them twice.")
    place = default_folder() if folder is None else Path(folder)
    return Pool(tuple(chosen), numbers, place, quick, device)
