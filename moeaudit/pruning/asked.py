"""What a pruning curve is asked, checked before a model is loaded or a text is read."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moeaudit.errors import InputError, one_of
from moeaudit.seeds import check_seed

from .criteria.own import Ranking, named_rankings

# Names of `expert_metrics`; docs/methods/metrics.md has their formulas.
OBSERVED = (
    "utilisation",
    "mean_weight",
    "activation_norm",
    "activation_sd",
    "reap",
    "ean",
    "man",
    "msan",
    "easy_ep",
)
RANDOM = "random"
KNOWN = (*OBSERVED, "router_norm", "causal_harm", RANDOM)
# MAN is the mean activation norm under another name; counting it twice would flatter agreement.
DEFAULT = tuple(name for name in KNOWN if name != "man")
SCOPES = ("layer", "global")
DEPTHS = ("all", "early", "middle", "late")
MOST_DRAWS = 10_000


@dataclass(frozen=True)
class Asked:
    """The question: which criteria, how much, where, beside how many random draws."""

    names: tuple[str, ...]  # criteria in the order given, "random" last unless it was named
    own: Mapping[str, Ranking]  # rankings that the user brought, by name
    named: bool  # the user named criteria, so one that has no numbers is an error
    shares: tuple[float, ...]
    scopes: tuple[str, ...]
    depths: tuple[str, ...]
    draws: int
    seed: int
    level: float
    margin: float


def python_name(argument: str) -> str:
    """How an argument is called in a message to a caller from Python."""
    return f"{argument} ="


def asked_of(
    criteria: Any = None,
    keep: Any = (0.875, 0.75, 0.5),
    *,
    scope: Any = "layer",
    layers: Any = "all",
    draws: Any = 20,
    seed: Any = 0,
    level: Any = 0.95,
    margin: Any = 0.01,
    called: Callable[[str], str] = python_name,
) -> Asked:
    """The question, if it can be one. `called` says how the reader of a message knows an argument.

    Random draws stand beside every criterion, whether "random" was named or not; `draws=0` asks for none.

    Raises InputError for anything that no model could answer.
    """
    own = named_rankings(criteria, KNOWN)
    named = check_criteria(criteria, called) if not own else list(own)
    names = [name for name in dict.fromkeys(named) if name != RANDOM]
    check_draws(draws, RANDOM in named and criteria is not None, called)
    shares = check_shares(keep, called)
    scopes = known_words(scope, SCOPES, called("scope"))
    depths = known_words(layers, DEPTHS, called("layers"))
    check_seed(seed)
    _within(level, 0, 1, called("level"), "the share of an interval")
    _within(
        margin, 0, math.inf, called("margin"), "a difference that does not matter, nats a token"
    )
    wanted = named if RANDOM in named else [*named, RANDOM]
    return Asked(
        names=tuple(dict.fromkeys(wanted if draws else names)),
        own={name: ranking for name, ranking in own.items() if ranking is not None},
        named=criteria is not None,
        shares=tuple(shares),
        scopes=tuple(scopes),
        depths=tuple(depths),
        draws=int(draws),
        seed=int(seed),
        level=float(level),
        margin=float(margin),
    )


def check_criteria(
    criteria: Sequence[str] | str | None, called: Callable[[str], str] = python_name
) -> list[str]:
    """The criteria asked for, each once, in the order given. Raises InputError."""
    if criteria is None:
        return list(DEFAULT)
    wanted = [criteria] if isinstance(criteria, str) else list(criteria)
    for name in wanted:
        plain = name.strip().lower().replace("-", "_") if isinstance(name, str) else name
        if name not in KNOWN and plain in KNOWN:
            raise InputError(f"Unknown criterion {name!r}. Did you mean {plain}?")
        one_of(name, KNOWN, "criterion")
    if not wanted:
        raise InputError(
            f"{called('criteria')} {criteria!r} names no criterion. Name some of {', '.join(KNOWN)}, or leave it out "
            "for all."
        )
    return list(dict.fromkeys(wanted))


def check_draws(draws: Any, named: bool, called: Callable[[str], str] = python_name) -> None:
    """Raises InputError for a number of draws that has no spread; 0 asks for none."""
    whole = isinstance(draws, numbers.Integral) and not isinstance(draws, bool)
    if not whole or draws < 0 or draws == 1 or (named and draws < 2):
        raise InputError(
            f"{called('draws')} {draws!r} random choices have no spread to compare a criterion with; ask for 20 or "
            "more" + ("." if named else ", or for 0 to compare with none.")
        )
    if int(draws) > MOST_DRAWS:
        raise InputError(
            f"{called('draws')} {draws}: each random choice is a model that reads all documents, and at most "
            f"{MOST_DRAWS:,} are drawn. 20 are usual, and 20 for each criterion can show that it beats luck."
        )


def check_shares(keep: Any, called: Callable[[str], str] = python_name) -> list[float]:
    """The shares asked for, each once, largest first. Raises InputError for what is no share."""
    shares = list(keep) if isinstance(keep, Iterable) and not isinstance(keep, str) else [keep]
    right = [
        isinstance(s, numbers.Real) and not isinstance(s, bool) and 0 < float(s) <= 1
        for s in shares
    ]
    if not shares or not all(right):
        wrong = repr(shares[right.index(False)]) if shares and len(shares) > 1 else repr(keep)
        raise InputError(
            f"{called('keep')} {wrong}: shares of the experts that stay were expected, each above 0 and at "
            "most 1, such as 0.875, 0.75 and 0.5."
        )
    return sorted({float(s) for s in shares}, reverse=True)


def known_words(value: Any, known: Sequence[str], what: str) -> list[str]:
    """One or several of the known words, each once. Raises InputError."""
    values = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    if not values:
        raise InputError(f"{what} {value!r} is empty. Choose one or several of {', '.join(known)}.")
    return [
        one_of(v, known, what.removesuffix(" =") + "=" * what.endswith("="))
        for v in dict.fromkeys(values)
    ]


def _within(value: Any, low: float | int, high: float | int, what: str, meaning: str) -> None:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not low < float(value) < high:
        room = f"above {low:g}" + (f" and below {high:g}" if high < math.inf else "")
        raise InputError(f"{what} {value!r}: {meaning} was expected, a number {room}.")
