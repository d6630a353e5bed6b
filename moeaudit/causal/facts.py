"""What a table of effects was measured with: plain values that go wherever the table goes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moeaudit.errors import InputError, RunError
from moeaudit.store.question import Question

if TYPE_CHECKING:
    from moeaudit.models import Model
    from moeaudit.text import TokenizedCorpus


class NoFacts(InputError, AttributeError):
    """The table does not say what it is of. Also an AttributeError, so that `hasattr` is false."""


@dataclass(frozen=True)
class Facts:
    """The question, what it was asked of, and what the engine had to say.

    `weights` and `texts` are SHA-256 hashes, None where they are not known or differ within the
    table; `max_length` is how long texts were cut, so that the same pieces can be made again.
    `engine` names every engine that computed a part, `drift` how far rows without an edit end from
    the clean forward at most, in nats.
    """

    question: Question
    weights: str | None = None
    dtype: str | None = None
    layers: tuple[int, ...] | None = None
    max_length: int | None = None
    texts: str | None = None
    engine: str = ""
    drift: float | None = None
    notes: tuple[str, ...] = ()

    @staticmethod
    def of(
        model: Model, texts: TokenizedCorpus, layers: Iterable[int], question: Question
    ) -> Facts:
        """What is known before anything is computed."""
        weights = model.provenance.get("weights_sha256")
        dtype = str(model.dtype).removeprefix("torch.")
        length, found = texts.max_length, tuple(texts.notes)
        if weights is None:
            why = model.provenance.get("weights_sha256_of", "not hashed")
            found += (
                f"The weights are {why}, so nothing can tell these effects from those of others.",
            )
        return Facts(question, weights, dtype, tuple(layers), length, texts.hash, notes=found)

    def asked(self) -> dict[str, Any]:
        """The part that decides the numbers: what a table must have in common to be continued."""
        found = ("engine", "drift", "notes")
        return {key: value for key, value in self.to_dict().items() if key not in found}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; tuples become lists."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        return plain | {"question": self.question.to_dict()}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Facts:
        """Inverse of `to_dict`. Raises NoFacts for what stands in the place of facts, RunError for
        fields that another version wrote."""
        if "mixed" in values:
            raise NoFacts(
                f"This table joins effects of different questions ({'; '.join(values['mixed'])}), so it has no one "
                "question, engine or drift. Read them from the tables before they are joined."
            )
        names = {f.name for f in dataclasses.fields(Facts)}
        if set(values) != names:
            raise RunError(
                "This table was written by another version of moeaudit: its facts differ in "
                f"{', '.join(sorted(set(values) ^ names))}. Read it with that version, or measure it again."
            )
        plain = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return Facts(**{**plain, "question": Question.from_dict(values["question"])})


class Told:
    """What a table of effects says of itself, in memory or in a folder: read from its `facts`."""

    facts: Any

    @property
    def question(self) -> Question:
        """What was asked. Raises InputError where it is not known."""
        return self.facts.question

    @property
    def engine(self) -> str:
        """Which engine computed the rows. Raises InputError where it is not known."""
        return self.facts.engine

    @property
    def drift(self) -> float | None:
        """What rounding does to a row, nats. Raises InputError where nothing is known."""
        return self.facts.drift

    @property
    def notes(self) -> list[str]:
        """What was left out, cut or slower. Raises InputError where nothing is known."""
        return list(self.facts.notes)


def joined(parts: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """The facts, as `to_dict` writes them, of a table made of several; None is a part without any.

    Parts of one question stay a table of it: engines and notes are named side by side, the drift is
    the largest, and what differs besides is no longer known. Parts of several questions do not.
    """
    mixed: dict[str, None] = {}
    for part in parts:
        if part is None:
            mixed["rows that carry no question"] = None
        elif "mixed" in part:
            mixed |= dict.fromkeys(part["mixed"])
        else:
            mixed[str(Question.from_dict(part["question"]))] = None
    known = [Facts.from_dict(part) for part in parts if part is not None and "mixed" not in part]
    first = known[0].question if known else None
    if len(known) < len(parts) or any(facts.question != first for facts in known):
        return {"mixed": list(mixed)}
    assert first is not None
    common = {
        name: getattr(known[0], name) if len({getattr(f, name) for f in known}) == 1 else None
        for name in ("weights", "dtype", "layers", "max_length", "texts")
    }
    engines = dict.fromkeys(e for facts in known for e in facts.engine.split(_AND) if e)
    drifts = [facts.drift for facts in known]
    drift = None if None in drifts else max(d for d in drifts if d is not None)
    notes = tuple(dict.fromkeys(note for facts in known for note in facts.notes))
    return Facts(first, **common, engine=_AND.join(engines), drift=drift, notes=notes).to_dict()


_AND = "; then "
