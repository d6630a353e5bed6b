"""Operators by word, as the command line takes them: `name[:argument]`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moeaudit.errors import InputError

if TYPE_CHECKING:
    from moeaudit.causal.operators import ExpertOutputs, Operator

HeldOut = Callable[[], "ExpertOutputs"]


@dataclass(frozen=True)
class Word:
    """One operator's word. `make` is given the argument (None without one) and the held-out outputs."""

    usage: str
    means: str
    make: Callable[[str | None, HeldOut], Operator]


def operator_of(text: str, held_out: HeldOut | None = None) -> Operator:
    """The operator that `text` names, such as `renormalize:one` or `everywhere:zero`.

    `held_out` is called where an operator needs what experts say on other documents; without it such
    operators are made on nothing, which is enough to see whether the words are right. Raises
    InputError for a word that is not known, naming those that are, and for arguments that cannot be.
    """
    name, colon, argument = text.strip().partition(":")
    word = WORDS.get(name)
    if word is None:
        raise InputError(
            f"Unknown operator {text!r}. Choose one of {', '.join(w.usage for w in WORDS.values())}."
        )
    if colon and not argument.strip():
        raise InputError(f"The operator {text!r} ends in a colon; write {word.usage}.")
    if argument and ":" not in word.usage:
        raise InputError(f"The operator {name!r} takes no argument, and {text!r} gives one.")
    if not argument and ":" in word.usage and "[:" not in word.usage:
        raise InputError(f"The operator {name!r} needs an argument: {word.usage} ({word.means}).")
    try:
        return word.make(argument.strip() or None, held_out or _nothing)
    except _Unreadable as error:
        raise InputError(
            f"The operator {text!r} cannot be read at {str(error)!r}; write {word.usage} ({word.means})."
        ) from None


class _Unreadable(ValueError):
    """Part of an argument that makes no sense; its text is the part."""


def _nothing() -> ExpertOutputs:
    from moeaudit.causal.operators import ExpertOutputs

    return ExpertOutputs({}, 0)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise _Unreadable(text) from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _Unreadable(text) from None


def _among(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise _Unreadable(text)
        return text

    return read


def _wholes(text: str | None) -> tuple[int, ...] | None:
    return None if text is None else tuple(_whole(part.strip()) for part in text.split(","))


def _made(name: str, *arguments: Any, **named: Any) -> Operator:
    """The operator class `name`, made; imported late, since the command line must start at once."""
    from moeaudit.causal import operators

    return getattr(operators, name)(*arguments, **named)


def _optional(name: str, argument: str | None, read: Callable[[str], Any]) -> Operator:
    return _made(name) if argument is None else _made(name, read(argument))


def _everywhere(argument: str | None, held_out: HeldOut) -> Operator:
    inside = operator_of(argument or "", held_out)
    # Rows that are about several experts have no expert to follow through the document.
    by = "expert" if getattr(inside, "of_one_expert", True) else "rank"
    return _made("Everywhere", inside, by=by)


def _bank(argument: str | None, _: HeldOut) -> Operator:
    groups = (argument or "").split("/")
    return _made("Bank", tuple(tuple(_whole(i.strip()) for i in g.split(",")) for g in groups))


def _pool(argument: str | None, _: HeldOut) -> Operator:
    size, *more = (part.strip() for part in (argument or "").split(","))
    if len(more) > 2:
        raise _Unreadable(more[2])
    draw = [_among("own", "random")(more[0])] if more else []
    if len(more) == 2 and draw == ["own"]:
        raise _Unreadable(more[1])  # nothing is drawn
    return _made("DocumentPool", _whole(size), None, *draw, *(_whole(seed) for seed in more[1:]))


def _without(argument: str | None, _: HeldOut) -> Operator:
    experts: dict[int, list[int]] = {}
    for part in (argument or "").split(","):
        layer, slash, expert = part.strip().partition("/")
        if not slash:
            raise _Unreadable(part)
        experts.setdefault(_whole(layer), []).append(_whole(expert))
    return _made("Without", experts)


_ALL = [
    Word("zero", "the expert's weight becomes 0", lambda _a, _h: _made("Zero")),
    Word(
        "renormalize[:sum|one]",
        "removed, the others scaled up to their old sum, or to 1",
        lambda a, _h: _optional("Renormalize", a, _among("sum", "one")),
    ),
    Word(
        "swap:E|all",
        "expert E, or every expert in turn, in its place",
        lambda a, _h: _made("Swap", a if a == "all" else _whole(a or "")),
    ),
    Word(
        "reroute[:kept|remaining]",
        "banned, the router's next choice enters",
        lambda a, _h: _optional("Reroute", a, _among("kept", "remaining")),
    ),
    Word(
        "scale:C",
        "the expert's weight times C",
        lambda a, _h: _made("Scale", _number(a or "")),
    ),
    Word("skip[:J,K]", "ranks from J on removed together", lambda a, _h: _made("Skip", _wholes(a))),
    Word(
        "coalitions[:N,M]",
        "sets of N experts removed together",
        lambda a, _h: _made("Coalitions", _wholes(a)),
    ),
    Word(
        "permutations[:N]",
        "experts removed one after the other, in N random orders",
        lambda a, _h: _optional("Permutations", a, _whole),
    ),
    Word(
        "mean-output",
        "its mean output on the metric documents in its place",
        lambda _a, h: _made("MeanOutput", h()),
    ),
    Word(
        "resample[:SEED]",
        "its output at a random token of the metric documents",
        lambda a, h: _made("Resample", h(), *([] if a is None else [_whole(a)])),
    ),
    Word("shared-expert", "the shared expert removed", lambda _a, _h: _made("SharedExpert")),
    Word(
        "shared-gate:V",
        "the shared expert's gate at V, 0 to 1",
        lambda a, _h: _made("SharedGate", _number(a or "")),
    ),
    Word(
        "bank:LAYER,LAYER/LAYER,LAYER",
        "the expert removed in all later layers that share it, groups of layers by number",
        _bank,
    ),
    Word("everywhere:OPERATOR", "the same edit at every token of a document", _everywhere),
    Word(
        "without:LAYER/E,LAYER/E",
        "these experts out of the whole model; the router cannot choose them",
        _without,
    ),
    Word(
        "pool:D[,random[,SEED]]",
        "each document chooses from the D experts it prefers, or from D random ones",
        _pool,
    ),
]
WORDS = {word.usage.partition(":")[0].partition("[")[0]: word for word in _ALL}


# Classes whose word is made of what `to_dict` says: the word, and the field that is its argument.
_PLAIN = {"Zero": "zero", "SharedExpert": "shared-expert", "MeanOutput": "mean-output"}
_ONE = {
    "Renormalize": ("renormalize", "to"),
    "Reroute": ("reroute", "scores"),
    "Swap": ("swap", "expert"),
    "Scale": ("scale", "factor"),
    "SharedGate": ("shared-gate", "value"),
    "Skip": ("skip", "ranks"),
    "Coalitions": ("coalitions", "sizes"),
    "Permutations": ("permutations", "n"),
    "Resample": ("resample", "seed"),
}


def word_of(operator: Mapping[str, Any]) -> str | None:
    """The word of `--operator` for an operator's `to_dict()`; None for one that has no word here."""
    name = str(operator.get("operator"))
    if name in _PLAIN:
        return _PLAIN[name]
    if name in _ONE and _ONE[name][1] in operator:
        word, key = _ONE[name]
        value = operator[key]
        if value is None:
            return word
        return f"{word}:{','.join(map(str, value)) if isinstance(value, list | tuple) else value}"
    if name == "Bank":
        return "bank:" + "/".join(",".join(map(str, group)) for group in operator["groups"])
    if name == "DocumentPool" and operator.get("only") is None:
        drawn = operator.get("draw") == "random"
        return f"pool:{operator['size']}" + (f",random,{operator['seed']}" if drawn else "")
    if name == "Everywhere" and isinstance(inside := operator.get("of"), Mapping):
        word = word_of(inside)
        return None if word is None else f"everywhere:{word}"
    return None
