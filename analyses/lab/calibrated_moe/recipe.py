"""The recipe of the analysis: a TOML file of how each kind of model is trained, and with how many seeds."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import moeaudit.lab as lab
from moeaudit.errors import InputError, one_of
from moeaudit.lab.recipes.sections import positive, section

from .classifiers.robust_training import RobustSettings

BUNDLED = Path(__file__).with_name("recipe.toml")
LEAST = 2  # seeds, for an interval
QUICK = ("olmoe", "olmoe-tilted")  # arms of a try-out


@dataclass(frozen=True)
class Training:
    """A section of a classifier task."""

    seeds: int = 3
    epochs: int = 50
    batch: int = 128
    rate: float = 1e-3

    def __post_init__(self) -> None:
        positive(self, "task", "epochs", "batch", "rate")


@dataclass(frozen=True)
class Adversary:
    """`[adversary]`: what the robust losses train against."""

    strength: float = 2.0
    radius: float = 0.5
    warm_up: float = 0.4


@dataclass(frozen=True)
class Language:
    """`[language]`: arms of the lab's pool, and the one the others are compared with."""

    arms: str = "olmoe, olmoe-tilted"
    against: str = "olmoe"
    seeds: int = 3

    def __post_init__(self) -> None:
        for name in (*self.names, self.against):
            one_of(name, lab.ARMS, "arm")
        one_of(self.against, self.names, "arm of [language] arms to compare with")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(part for part in (p.strip() for p in self.arms.split(",")) if part)


@dataclass(frozen=True)
class Recipe:
    """All sections; a task without one has the defaults of `Training`."""

    tasks: dict[str, Training] = field(default_factory=dict)
    adversary: Adversary = field(default_factory=Adversary)
    language: Language = field(default_factory=Language)

    @classmethod
    def read(cls, path: Path, tasks: Iterable[str]) -> Recipe:
        """The recipe of a file. Raises InputError for one that cannot be read, and for sections, keys and values that
        do not fit."""
        try:
            found = tomllib.loads(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise InputError(f"{path} cannot be read as a recipe in TOML: {why}.") from error
        names = list(tasks)
        for key in found:
            one_of(key, [*names, "adversary", "language"], "section of this recipe")
        made = {n: section(Training, n, found.get(n, {})) for n in names}
        return cls(
            made,
            section(Adversary, "adversary", found.get("adversary", {})),
            section(Language, "language", found.get("language", {})),
        )

    def settled(self, seeds: int | None, *, quick: bool) -> Recipe:
        """With `seeds` everywhere if it is given, and small if `quick`. Raises InputError for fewer than two seeds."""
        given = 2 if quick else seeds
        tasks, language = dict(self.tasks), self.language
        if given is not None:
            tasks = {name: replace(each, seeds=given) for name, each in tasks.items()}
            language = replace(language, seeds=given)
        if quick:
            tasks = {n: replace(t, epochs=max(1, round(0.4 * t.epochs))) for n, t in tasks.items()}
            language = Language(", ".join(QUICK), QUICK[0], 2)
        for name, many in [*((n, t.seeds) for n, t in tasks.items()), ("language", language.seeds)]:
            if many < LEAST:
                raise InputError(
                    f"[{name}] has {many} seed{'s' * (many != 1)}; at least {LEAST} seeds are needed for an interval."
                )
        return Recipe(tasks, self.adversary, language)

    def settings(self, task: str) -> RobustSettings:
        """How the classifiers of a task are trained, before an objective is chosen."""
        here = self.tasks[task]
        return RobustSettings(
            epochs=here.epochs, batch=here.batch, rate=here.rate, **asdict(self.adversary)
        )

    def to_dict(self) -> dict[str, Any]:
        return {**{n: asdict(t) for n, t in self.tasks.items()}} | {
            "adversary": asdict(self.adversary),
            "language": asdict(self.language),
        }
