"""What an operator does, in the words that the page needs of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from moeaudit.store.question import Question

from .numbers import plural

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class OperatorWords:
    """The words for one operator; each fits the sentences of the page.

    `one`, `many`: what a row of the effects table is. `doing`: how a sentence about all of them
    begins, with `{model}` in it. `what`: the edit of one layer's answer, as a clause. `cost`: what a
    metric may predict the cost of ("to lose"). `removes`: whether it says what a model without the
    expert would do. `subject`: which column of the effects says what a row is about ("expert",
    "rank", or nothing but the layer). `scope` is the question's.
    """

    one: str
    many: str
    doing: str
    what: str
    cost: str = "to edit"
    removes: bool = False
    subject: str = "expert"
    scope: str = "position"
    frozen: bool = False

    @property
    def where(self) -> str:
        """`for one token`, or what the scope makes of it."""
        return {
            "position": "for one token",
            "document": "at every token of a document",
            "model": "at every token",
        }[self.scope]

    def doing_to(self, model: str) -> str:
        """`Removing one active expert of tiny-olmoe for one token`."""
        frozen = ", the routing of later layers frozen," if self.frozen else ""
        return f"{self.doing.replace('{model}', model)} {self.where}{frozen}"

    def times(self, rows: str) -> str:
        """How often: rows of a whole-document edit are readings of it, not edits of their own."""
        return f"{rows} times" if self.scope == "position" else f"read off {rows} predictions"

    def row(self, row: Mapping[str, Any]) -> str:
        """`layer 3 expert 5`: what one row of the effects is about."""
        place = self.place(int(row["layer"]))
        if self.subject == "expert":
            return f"{place} expert {row['expert']}"
        if self.subject == "rank" and "rank" in row:
            return f"{place} rank {row['rank']}"
        if self.subject == "set" and "members" in row:
            bits = int(row["members"])
            return f"{place} ranks {_listed([r for r in range(32) if bits >> r & 1])}"
        return place

    def place(self, layer: int) -> str:
        """`layer 3`; rows of an edit of several layers belong to none."""
        return "whole model" if layer < 0 else f"layer {layer}"


_ACTIVE = "one of the experts that the router chose"
_ONE = "one active expert of {model}"


ZERO = OperatorWords(
    "removal",
    "removals",
    f"Removing {_ONE}",
    f"{_ACTIVE} is removed: its gate weight becomes zero, the other experts keep theirs",
    "to lose",
    removes=True,
)


def _zero(_: Arguments) -> OperatorWords:
    return ZERO


def _renormalize(a: Arguments) -> OperatorWords:
    how = "sum to one" if a["to"] == "one" else "keep their old sum"
    return OperatorWords(
        "removal",
        "removals",
        f"Removing {_ONE} and scaling up the others",
        f"{_ACTIVE} is removed and the others are scaled up, so that the weights {how}",
        "to lose",
        removes=True,
    )


def _reroute(a: Arguments) -> OperatorWords:
    how = (
        "the others' scores stay as the full router computed them"
        if a["scores"] == "kept"
        else "the softmax runs over the experts that remain"
    )
    return OperatorWords(
        "rerouting",
        "reroutings",
        f"Rerouting around {_ONE}",
        f"{_ACTIVE} is banned and the next choice enters by the model's own rule; {how}",
        "to reroute around",
        removes=True,
    )


def _scale(a: Arguments) -> OperatorWords:
    return OperatorWords(
        "edit",
        "edits",
        f"Multiplying the weight of {_ONE} by {a['factor']:g}",
        f"the weight of {_ACTIVE} is multiplied by {a['factor']:g}; the others keep theirs",
        "to scale",
    )


def _swap(a: Arguments) -> OperatorWords:
    every = a["expert"] == "all"
    whom = "every expert of the layer in turn" if every else f"expert {a['expert']}"
    return OperatorWords(
        "swap",
        "swaps",
        f"Putting {whom} in the place of {_ONE}",
        f"{_ACTIVE} is replaced by {whom}, at the same weight",
        "to swap out",
    )


def _skip(a: Arguments) -> OperatorWords:
    ranks = "" if a["ranks"] is None else f" (j = {_listed(a['ranks'])})"
    return OperatorWords(
        "cut",
        "cuts",
        "Removing the tail of the active experts of {model}",
        f"the tail of the active experts, from rank j on, is removed together{ranks}; the others keep "
        "their weights",
        subject="rank",
    )


def _coalitions(a: Arguments) -> OperatorWords:
    sizes = "of every size" if a["sizes"] is None else f"of size {_listed(a['sizes'])}"
    return OperatorWords(
        "joint removal",
        "joint removals",
        "Removing sets of active experts of {model} together",
        f"every set {sizes} of the experts that the router chose is removed together; the others keep "
        "their weights",
        subject="set",
    )


def _permutations(a: Arguments) -> OperatorWords:
    return OperatorWords(
        "joint removal",
        "joint removals",
        "Removing the active experts of {model} one after the other",
        f"the experts that the router chose are removed one after the other, in {a['n']} random "
        "orders; each step is a row",
        subject="set",
    )


def _mean(a: Arguments) -> OperatorWords:
    outputs = f"over {plural(a['held_out']['documents'], 'held-out document')}"
    return OperatorWords(
        "replacement",
        "replacements",
        f"Replacing the output of {_ONE} by its mean",
        f"the output of {_ACTIVE} is replaced by its mean {outputs}, at the same weight",
        "to replace",
        removes=True,
    )


def _resample(a: Arguments) -> OperatorWords:
    outputs = plural(a["held_out"]["documents"], "held-out document")
    return OperatorWords(
        "replacement",
        "replacements",
        f"Replacing the output of {_ONE} by one from elsewhere",
        f"the output of {_ACTIVE} is replaced by what it said at a random token of {outputs}, at the "
        f"same weight (seed {a['seed']})",
        "to replace",
        removes=True,
    )


def _shared(_: Arguments) -> OperatorWords:
    return OperatorWords(
        "removal",
        "removals",
        "Removing the shared expert of {model} in one layer",
        "the shared expert, which every token gets beside its routed experts, is removed; the routed "
        "experts stay",
        subject="layer",
    )


def _gate(a: Arguments) -> OperatorWords:
    return OperatorWords(
        "edit",
        "edits",
        f"Setting the shared expert's gate of {{model}} to {a['value']:g} in one layer",
        f"the shared expert's gate is set to {a['value']:g}; the routed experts stay",
        subject="layer",
    )


def _without(a: Arguments) -> OperatorWords:
    experts = "; ".join(f"layer {k}: {_listed(v)}" for k, v in a["experts"].items())
    how = "their weights become zero" if a["rule"] == "zero" else "the router cannot choose them"
    return OperatorWords(
        "edited prediction",
        "edited predictions",
        "Taking experts out of {model}",
        f"a set of experts ({experts}) is taken out of the model: {how}",
        subject="layer",
    )


def _pool(a: Arguments) -> OperatorWords:
    which = "that its router prefers on average" if a["draw"] == "own" else "drawn at random for it"
    where = "every layer" if a["only"] is None else f"layers {_listed(a['only'])}"
    return OperatorWords(
        "edited prediction",
        "edited predictions",
        "Letting each document of {model} choose from a pool of experts",
        f"every document may choose, in {where}, only among {a['size']} experts {which}",
        subject="layer",
    )


def _bank(a: Arguments) -> OperatorWords:
    groups = "; ".join(_listed(group) for group in a["groups"])
    return OperatorWords(
        "removal",
        "removals",
        f"Removing {_ONE}, there and in later layers of its bank,",
        f"{_ACTIVE} is removed in its layer and wherever the token goes to it again in later layers of the same bank "
        f"(layers {groups}); the other experts keep their weights",
        "to lose",
    )


def _everywhere(a: Arguments) -> OperatorWords:
    inside = _words(a["of"])
    if a["by"] == "rank" and inside.subject == "expert":
        inside = replace(inside, subject="rank")
    return inside


_KNOWN: dict[str, Callable[[Arguments], OperatorWords]] = {
    "Zero": _zero,
    "Renormalize": _renormalize,
    "Reroute": _reroute,
    "Scale": _scale,
    "Swap": _swap,
    "Skip": _skip,
    "Coalitions": _coalitions,
    "Permutations": _permutations,
    "MeanOutput": _mean,
    "Resample": _resample,
    "SharedExpert": _shared,
    "SharedGate": _gate,
    "Without": _without,
    "DocumentPool": _pool,
    "Bank": _bank,
    "Everywhere": _everywhere,
}


def words_of(question: Question) -> OperatorWords:
    """The words for the operator of a question. One that is not known here is told by its name."""
    found = _words(question.operator, question.name)
    return replace(found, scope=question.scope, frozen=question.frozen_routing)


def _words(operator: Arguments, name: str = "") -> OperatorWords:
    known = _KNOWN.get(str(operator.get("operator")))
    if known is not None:
        return known(operator)
    name = name or str(operator.get("name") or operator.get("operator"))
    active = operator.get("rows", "active") == "active"
    return OperatorWords(
        "edit",
        "edits",
        f"Editing the routing of {{model}} ({name})",
        f"the router's answer is changed by an operator called \N{LEFT DOUBLE QUOTATION MARK}{name}"
        "\N{RIGHT DOUBLE QUOTATION MARK}",
        subject="expert" if active else "layer",
    )


def _listed(values: Any) -> str:
    return ", ".join(map(str, values))
