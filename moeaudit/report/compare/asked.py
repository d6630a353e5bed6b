"""What differs between the questions of two runs, and whether their answers can be taken from each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from moeaudit.errors import InputError, RunError, one_of
from moeaudit.runs.spec import AuditSpec
from moeaudit.store.differences import told

AGAIN = "again"
# What can be compared: name -> (fields of the spec, what it is in a sentence).
DIFFERENCES = {
    "model": ({"model", "weights"}, "the model"),
    "operator": (
        {"question.name", "question.operator", "question.scope", "question.per_expert"},
        "the operator",
    ),
    "frozen_routing": ({"question.frozen_routing"}, "whether later routing is frozen"),
    "share": ({"question.share", "question.seed"}, "the sample of removals"),
    "dtype": ({"dtype"}, "the precision"),
    "text": (
        {"text", "effect_text", "effect_documents", "tokens", "max_length"},
        "the text",
    ),
}
# Numbers of another horizon are of other tokens' losses: no difference of theirs has a meaning.
NEVER = {"question.horizon"}
# Nothing here changes an effect; verdicts of routing metrics come from them.
OF_TESTS = {
    "metric_text",
    "metric_documents",
    "tested",
    "protocol",
    "sesoi",
    "alpha",
    "metrics",
    "seed",
}
# Neither effects nor verdicts: how a run was checked and stored, and text that is audited beside.
OF_WORK = {
    "verify_rows",
    "verify_engines",
    "shard_documents",
    "shift",
    "shift_text",
    "shift_documents",
}
# Not refused: only what both have is compared, and the rest is said.
SHARED = {"layers", "question.outcomes"}


@dataclass(frozen=True)
class Asked:
    """How two questions differ. `across`: names of `DIFFERENCES` (empty: none differs); `fields`: what differs in
    them; `tests`: what differs in how verdicts were reached."""

    across: tuple[str, ...]
    fields: list[tuple[str, Any, Any]]
    tests: list[tuple[str, Any, Any]]

    @property
    def what(self) -> str:
        """`the operator`, or that nothing differs."""
        if not self.across:
            return "nothing but when and how they were run"
        return " and ".join(DIFFERENCES[name][1] for name in self.across)


def across_names(given: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """`"operator"`, `"model,text"` or `["model", "text"]` as names. Raises InputError for one that is not known."""
    if given is None:
        return None
    words = given.split(",") if isinstance(given, str) else list(given)
    names = tuple(dict.fromkeys(str(word).strip() for word in words))
    for name in names:
        one_of(name, [*DIFFERENCES, AGAIN], "across=")
    if AGAIN in names and len(names) > 1:
        raise InputError(
            f"across names {', '.join(names)}; {AGAIN!r} says that nothing differs, so it stands alone."
        )
    return names


def asked(
    a: AuditSpec,
    b: AuditSpec,
    same_documents: bool,
    across: Sequence[str] | None,
    names: tuple[str, str],
) -> Asked:
    """What two runs differ in, where that can be compared.

    `same_documents`: both read the same documents, though perhaps as other tokens (another model has another
    tokenizer). `across`: what is to be compared; None: the one thing that differs.

    Raises RunError, naming the fields, for more than that, for a difference that nothing can be made of, and for one
    that was asked for and is not there.
    """
    found = a.differences(b)
    if never := [each for each in found if _root(each[0]) in NEVER]:
        raise RunError(
            f"{names[0]} and {names[1]} cannot be compared: {told(never, *_places(names))}. Their numbers are about "
            "other tokens, so that a difference would mean nothing. Compare runs of one horizon."
        )
    known = {*OF_TESTS, *OF_WORK, *SHARED}.union(*(fields for fields, _ in DIFFERENCES.values()))
    if odd := [each for each in found if _root(each[0]) not in known]:
        raise RunError(
            f"{names[0]} and {names[1]} cannot be compared: {told(odd, *_places(names))}. What that does to a "
            "difference is not known here. Compare runs that are alike in it."
        )
    groups: dict[str, list[tuple[str, Any, Any]]] = {}
    for field in found:
        for name, (fields, _) in DIFFERENCES.items():
            if _root(field[0]) in fields:
                groups.setdefault(name, []).append(field)
    other_tokens = a.effect_text != b.effect_text
    # The same tokens, or those another tokenizer makes of the same beginnings: no other text.
    if not other_tokens or (same_documents and "model" in groups and a.tokens == b.tokens):
        groups.pop("text", None)
    differ = tuple(name for name in DIFFERENCES if name in groups)
    fields = [each for name in differ for each in groups[name]]
    if across is None and len(differ) > 1:
        raise RunError(
            f"{names[0]} and {names[1]} differ in more than one thing ({', '.join(differ)}): "
            f"{told(fields, *_places(names))}. What comes from which could not be told. Compare runs that differ in "
            f"one of them, or say that all of it is to be compared: across={','.join(differ)}."
        )
    wanted = differ if across is None else tuple(name for name in across if name != AGAIN)
    if absent := [name for name in wanted if name not in differ]:
        have = ", ".join(differ) or "nothing that effects depend on"
        raise RunError(
            f"{names[0]} and {names[1]} do not differ in {', '.join(absent)}; they differ in {have}. Leave across "
            "out, and what differs is found by itself."
        )
    if unsaid := [name for name in differ if name not in wanted]:
        more = [each for name in unsaid for each in groups[name]]
        asked_for = ", ".join(wanted) or AGAIN
        raise RunError(
            f"{names[0]} and {names[1]} are to be compared across {asked_for}, and they differ in {', '.join(unsaid)} "
            f"as well: {told(more, *_places(names))}. Compare runs that do not, or name it too: "
            f"across={','.join([*wanted, *unsaid])}."
        )
    tests = [each for each in found if _root(each[0]) in OF_TESTS]
    return Asked(differ, fields, tests)


def _root(field: str) -> str:
    """`question.operator.expert` as `question.operator`, `question.share` as it is."""
    return ".".join(field.split(".")[:2]) if field.startswith("question.") else field.split(".")[0]


def _places(names: tuple[str, str]) -> tuple[str, str]:
    return f"in {names[0]}", f"in {names[1]}"
