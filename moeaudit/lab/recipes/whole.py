"""A recipe: everything that decides which model comes out of a training, frozen and hashed."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from moeaudit.errors import InputError, one_of

from ..training.mechanism import Mechanism, mechanism
from .sections import Balance, Schedule, Shape, TextSource, section

MAKING = 1  # raised when the same recipe comes to train to other numbers
_SECTIONS: dict[str, type] = {
    "model": Shape,
    "text": TextSource,
    "train": Schedule,
    "balance": Balance,
}


@dataclass(frozen=True)
class Recipe:
    """What is trained on what, and how: the sections of a TOML file (docs/lab/training.md lists every key).

    Two recipes of the same `hash` train to the same weights on one thread of one machine, if what `[text]` names is
    still the same text: its digest is no part of the hash, and a folder in which other text was read is refused.
    """

    model: Shape = field(default_factory=Shape)
    text: TextSource = field(default_factory=TextSource)
    train: Schedule = field(default_factory=Schedule)
    balance: Balance = field(default_factory=Balance)
    mechanisms: tuple[Mechanism, ...] = ()
    name: str = "recipe"  # what it is called; no part of the hash

    def __post_init__(self) -> None:
        if self.model.context < self.train.length:
            raise InputError(
                f"[train] length is {self.train.length} and [model] context {self.model.context}; a row must fit "
                "into the context."
            )
        if self.balance.scope == "micro" and self.train.rows % self.balance.groups:
            raise InputError(
                f"[balance] groups is {self.balance.groups} and [train] rows {self.train.rows}; rows must be shared "
                "equally among the groups."
            )
        weighing = [m.name for m in self.mechanisms if type(m).of_tokens is not Mechanism.of_tokens]
        if len(weighing) > 1:
            raise InputError(
                f"[mechanisms.{weighing[0]}] and [mechanisms.{weighing[1]}] both say what the tokens' losses add up "
                "to; leave one of them out."
            )
        for each in self.mechanisms:
            if each.of_experts and self.model.family == "llama":
                raise InputError(
                    f"[mechanisms.{each.name}] changes routing or experts, and a llama has neither. Choose another "
                    "family."
                )
            if each.balance not in (None, self.balance.scope):
                raise InputError(
                    f"[mechanisms.{each.name}] needs [balance] scope {each.balance!r}, and it is "
                    f"{self.balance.scope!r}: what it asks of each document would be what the balance loss forbids."
                )
            if each.optimiser not in (None, self.train.optimiser):
                raise InputError(
                    f"[mechanisms.{each.name}] needs [train] optimiser {each.optimiser!r}, and it is "
                    f"{self.train.optimiser!r}: its rules for starts and rates hold for that optimiser's steps alone. "
                    f'Give optimiser = "{each.optimiser}", with rates that suit it.'
                )

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """The recipe of a TOML file; a path in `[text]` is looked up beside the file.

        Raises InputError for a file that cannot be read, a section or key that does not exist (naming the nearest
        that does), a value of another type and values that do not fit together.
        """
        path = Path(path)
        try:
            found = tomllib.loads(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise InputError(f"{path} cannot be read as a recipe in TOML: {why}.") from error
        text = found.get("text", {})
        for key in ("corpus", "documents"):
            value = text.get(key) if isinstance(text, dict) else None
            if isinstance(value, str) and value not in ("", "bundled"):
                text[key] = str((path.parent / value).resolve())
        return cls.from_dict({"name": path.stem, **found})

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Recipe:
        """The recipe of these sections, as `to_dict` gives them. Raises InputError as `read` does."""
        for key in settings:
            one_of(key, [*_SECTIONS, "mechanisms", "name"], "section of a recipe")
        made = {
            name: section(kind, name, settings.get(name, {})) for name, kind in _SECTIONS.items()
        }
        chosen = settings.get("mechanisms", {})
        if not isinstance(chosen, Mapping):
            raise InputError(f"[mechanisms] is {chosen!r}; tables [mechanisms.NAME] were expected.")
        found = []
        for name, given in chosen.items():
            if not isinstance(given, Mapping):
                raise InputError(f"[mechanisms.{name}] is {given!r}; a table was expected.")
            found.append(mechanism(name, given))
        return cls(**made, mechanisms=tuple(found), name=str(settings.get("name", "recipe")))

    def to_dict(self) -> dict[str, Any]:
        """Every setting by section, defaults included; `from_dict` takes them back."""
        sections = {name: asdict(getattr(self, name)) for name in _SECTIONS}
        chosen = {each.name: each.to_dict() for each in self.mechanisms}
        return {"name": self.name, **sections, "mechanisms": chosen}

    def changed(self, **changes: Any) -> Recipe:
        """The recipe with other settings: sections (`train={"steps": 20}`) or single keys (`steps=20, seed=1`).

        A mechanism's section is replaced as a whole, and None takes it out (`mechanisms={"tying": None}`). Raises
        InputError for a key that no section has.
        """
        whole = self.to_dict()
        place = {f.name: name for name, kind in _SECTIONS.items() for f in fields(kind)}
        for key, value in changes.items():
            if key == "name":
                whole["name"] = value
            elif key in place:
                whole[place[key]][key] = value
            else:
                one_of(key, [*_SECTIONS, "mechanisms", "name", *place], "setting of a recipe")
                if not isinstance(value, Mapping):
                    raise InputError(f"{key} = {value!r}: a table of its keys was expected.")
                whole[key] |= value
        whole["mechanisms"] = {k: v for k, v in whole["mechanisms"].items() if v is not None}
        return type(self).from_dict(whole)

    @property
    def hash(self) -> str:
        """SHA-256 of all settings but the name, in hexadecimal."""
        said = {k: v for k, v in self.to_dict().items() if k != "name"} | {"making": MAKING}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
