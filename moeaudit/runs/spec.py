"""The question an audit asks, frozen: what is run on what, and what is read from it.

Two audits with equal specs ask the same question. The hash of the spec is what a resumed run is
checked against, so nothing that only affects speed (threads, shard size on screen) belongs here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from moeaudit.errors import RunError
from moeaudit.store.question import Question

if TYPE_CHECKING:
    from moeaudit.stats import Protocol

ZERO = Question("zero", {"operator": "Zero"})
TESTED = ("delta_nll", "kl")  # harm and disturbance
# What pruning would notice: where a metric chose which of two active experts a token loses, choosing
# right instead of wrong would save a percent of perplexity. Outcomes without nats have a bound in d_z.
SESOI, WITHOUT_NATS, ALPHA = "0.01nats", "0.1", 0.05
TOKENS = 128  # read of each document
# Fields that came later: at these values they are left out of the hash, so older runs keep theirs.
LATER = {
    "sesoi": WITHOUT_NATS,
    "alpha": ALPHA,
    "metrics": [],
    "shift": "",
    "shift_text": "",
    "shift_documents": 0,
}


@dataclass(frozen=True)
class AuditSpec:
    """Everything that determines the numbers of a run.

    `metric_text` and `effect_text` are the hashes of the two document sets: routing metrics come
    from the first, causal effects from the second, so that no document counts for both. `tokens` is
    how many tokens of each document are read (0: all), `max_length` how many the model reads at once.
    `question` is what is done to the router's answers, to which share, and what is measured, `tested` the measured
    outcomes that the statistics are about. `sesoi` is the smallest effect of interest ("0.1" in d_z,
    "0.01nats", "50%harm"), `alpha` the error rate of a family, `metrics` which routing metrics are tested
    (none named: all of them). `shift` says where the documents of other domains come from ("bundled",
    "documents"; empty if there are none), `shift_text` is their hash.
    """

    model: str
    weights: str
    text: str
    metric_text: str
    effect_text: str
    metric_documents: int
    effect_documents: int
    layers: tuple[int, ...]
    max_length: int
    tokens: int
    seed: int = 0
    question: Question = field(default=ZERO)
    tested: tuple[str, ...] = TESTED
    protocol: str = "moeaudit"
    verify_rows: int = 8
    verify_engines: tuple[str, ...] = ("hooks", "nnsight")
    dtype: str = "float32"
    shard_documents: int = 8
    sesoi: str = WITHOUT_NATS
    alpha: float = ALPHA
    metrics: tuple[str, ...] = ()
    shift: str = ""
    shift_text: str = ""
    shift_documents: int = 0

    @property
    def recipe(self) -> Protocol:
        """The statistical protocol with what was declared here."""
        from moeaudit.stats import get_protocol

        return get_protocol(self.protocol).with_(sesoi=self.sesoi, alpha=self.alpha)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; tuples become lists."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        return {**plain, "question": self.question.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AuditSpec:
        """Inverse of `to_dict`. Raises RunError on unknown or missing fields."""
        names = {field.name for field in dataclasses.fields(cls)}
        required = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}
        odd, missing = sorted(set(values) - names), sorted(required - set(values))
        if odd or missing:
            problem = f"unknown fields {odd}" if odd else f"no field {missing}"
            raise RunError(
                f"The spec of this run has {problem}; it was written by another version of "
                "moeaudit. Read it with that version, or run the audit into a new folder."
            )
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        if "question" in fields:
            fields["question"] = Question.from_dict(fields["question"])
        return cls(**fields)

    def named(self) -> dict[str, Any]:
        """Every field by its name in full, such as `question.share`."""
        return flat({**self.to_dict(), "question": self.question.whole()})

    def canonical(self) -> str:
        """One line of JSON, the same for equal specs on every platform."""
        values = self.to_dict()
        values = {k: v for k, v in values.items() if k not in LATER or v != LATER[k]}
        return json.dumps(
            values,
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
        )

    @property
    def unit(self) -> str:
        """What a row of the effects is called: a removal, where an expert was plainly removed."""
        return "removals" if self.question.operator.get("operator") == "Zero" else "effects"

    @property
    def hash(self) -> str:
        """SHA-256 of `canonical()`, as hex."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def differences(self, other: AuditSpec) -> list[tuple[str, Any, Any]]:
        """The fields that differ, as (field, value here, value in `other`), in field order.

        Fields inside the question are named in full, such as `question.operator.expert`; what only
        one of the two has is None in the other.
        """
        mine, theirs = self.named(), other.named()
        names = dict.fromkeys([*mine, *theirs])
        found = [(name, mine.get(name), theirs.get(name)) for name in names]
        return [each for each in found if each[1] != each[2]]


def flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        inside = flat(value, f"{before}{key}.") if isinstance(value, Mapping) else None
        out |= {f"{before}{key}": value} if inside is None else inside
    return out
