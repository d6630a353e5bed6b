"""The question that a table of effects answers, frozen: it goes wherever the table goes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from moeaudit.errors import RunError

Scope = Literal["position", "document", "model"]
OUTCOMES = ("delta_nll", "kl", "flip")
SAMPLED = ("share", "seed")  # what a census does not say


@dataclass(frozen=True)
class Question:
    """What was done to the router's answers, where, and what was measured.

    `name` is the operator's name as tables and pages say it, `operator` its `to_dict()`. `scope`:
    one token at a time ("position"), every token of a document ("document"), or every token in
    several layers ("model"). `share` is the part of all removals that was made, drawn by `seed`; 1 is the
    census, which has no seed and says neither. `horizon` counts the later tokens that were looked at, "all" for as
    many as there were. `outcomes` names the columns measured. `per_expert` says whether there is one row
    for each active expert, which is what metrics of experts can be held against.
    """

    name: str
    operator: Mapping[str, Any] = field(hash=False)  # its name is hashed
    scope: Scope = "position"
    frozen_routing: bool = False
    horizon: int | Literal["all"] = 0
    outcomes: tuple[str, ...] = OUTCOMES
    per_expert: bool = True
    share: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        # As a file gives it back, so that a question read from disk equals the one that was asked.
        object.__setattr__(self, "operator", plain(self.operator))
        object.__setattr__(self, "outcomes", tuple(self.outcomes))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; tuples become lists. A census leaves `share` and `seed` out."""
        values = self.whole()
        if self.share == 1:
            values = {name: value for name, value in values.items() if name not in SAMPLED}
        return values

    def whole(self) -> dict[str, Any]:
        """All fields as plain JSON types."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return json.loads(json.dumps(values))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Question:
        """Inverse of `to_dict`. Raises RunError on fields that another version wrote."""
        names = {f.name for f in dataclasses.fields(cls)}
        absent = set(SAMPLED) - set(values)  # a census says neither
        if odd := sorted((set(values) ^ names) - absent):
            raise RunError(
                f"The question of this table has other fields than this version knows ({', '.join(odd)}); read it "
                "with the version of moeaudit that wrote it, or measure it again into a new folder."
            )
        return cls(**{**values, "outcomes": tuple(values["outcomes"])})

    def __str__(self) -> str:
        """The question in a few words, such as `zero, routing frozen, 4 tokens ahead`."""
        words = [self.name]
        if self.frozen_routing:
            words.append("routing frozen")
        if self.horizon:
            ahead = "all tokens" if self.horizon == "all" else f"{self.horizon} tokens"
            words.append(f"{ahead} ahead")
        if self.share != 1:
            words.append(f"a sample of {self.share:g} by seed {self.seed}")
        return ", ".join(words)


def plain(values: Any) -> Any:
    """Values as JSON gives them back: tuples as lists, mappings as dicts."""
    return json.loads(json.dumps(values, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be written down in a question")
