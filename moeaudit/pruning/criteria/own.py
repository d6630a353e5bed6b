"""Rankings that a user brings to `prune_curve`: a table of scores, or a function that makes one."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from moeaudit.errors import InputError

if TYPE_CHECKING:
    from moeaudit.models import Model
    from moeaudit.text import TokenizedCorpus

Ranking = pd.DataFrame | Callable[..., Any]
COLUMNS = ("layer", "expert", "score")
WANTED = "a table with the columns layer, expert and score, one row for each expert of each MoE layer, was expected"


def named_rankings(criteria: Any, known: Sequence[str]) -> dict[str, Ranking | None]:
    """Criteria by name, if some of them are the user's own: its ranking, or None for a known name.

    `criteria` may be a table, a function, a mapping from names to either (or to None, for a known criterion),
    or a sequence of known names, tables and functions. A table alone is called "own", a function by its
    own name. Empty where all criteria are plain names.

    Raises InputError for what is none of these, and for an own ranking with the name of a known criterion.
    """
    if criteria is None or isinstance(criteria, str):
        return {}
    pairs: list[tuple[Any, Any]]
    if isinstance(criteria, Mapping):
        pairs = [
            (name, None if isinstance(each, str) and each == name else each)
            for name, each in criteria.items()
        ]
    elif _is_ranking(criteria):
        pairs = [_pair(criteria)]
    elif isinstance(criteria, Iterable):
        pairs = [(each, None) if isinstance(each, str) else _pair(each) for each in criteria]
    else:
        raise InputError(f"criteria = {criteria!r} is neither names nor a ranking: {WANTED}.")
    if isinstance(criteria, Mapping) and not pairs:
        raise InputError("criteria = {} names no criterion. " + f"Name some of {', '.join(known)}.")
    if all(ranking is None for _, ranking in pairs) and not isinstance(criteria, Mapping):
        return {}
    found: dict[str, Ranking | None] = {}
    for name, ranking in pairs:
        _check_name(name, ranking, known, found)
        found[name] = ranking
    return found


def _is_ranking(each: Any) -> bool:
    return isinstance(each, pd.DataFrame) or callable(each)


def _pair(each: Any) -> tuple[str, Any]:
    if isinstance(each, pd.DataFrame):
        return "own", each
    if callable(each):
        return getattr(each, "__name__", type(each).__name__).strip("<>"), each
    raise InputError(
        f"The criterion {each!r} is neither a name nor a ranking; {WANTED}, or a function (model, calibration "
        "documents) that returns one."
    )


def _check_name(name: Any, ranking: Any, known: Sequence[str], before: Mapping[str, Any]) -> None:
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"A ranking is called {name!r}; a name in words was expected.")
    if name in before:
        raise InputError(
            f"Two criteria are called {name!r}. Give each its own name: criteria={{'one': ..., 'other': ...}}."
        )
    if ranking is None:
        if name not in known:
            raise InputError(
                f"The criterion {name!r} is none of {', '.join(known)}, and no ranking was given for it; {WANTED}."
            )
        return
    if not _is_ranking(ranking):
        raise InputError(
            f"The ranking {name!r} is a {type(ranking).__name__}; {WANTED}, or a function (model, calibration "
            "documents) that returns one."
        )
    if name in known:
        raise InputError(
            f"The ranking {name!r} has the name of a criterion of moeaudit. Give it another name, such as "
            f"'my {name}'."
        )


def own_scores(model: Model, name: str, ranking: Ranking, texts: TokenizedCorpus) -> pd.DataFrame:
    """The frame (layer, expert, criterion, score) of one ranking, a function being called now."""
    table = ranking
    if not isinstance(ranking, pd.DataFrame):
        try:
            inspect.signature(ranking).bind(model, texts)
        except TypeError as error:
            raise InputError(
                f"The ranking {name!r} cannot be called with (model, calibration documents): {error}. {WANTED}, or a "
                "function of these two that returns one."
            ) from None
        except ValueError:  # a builtin without a signature
            pass
        table = ranking(model, texts)
        if not isinstance(table, pd.DataFrame):
            raise InputError(f"The ranking {name!r} returned a {type(table).__name__}; {WANTED}.")
    return checked_table(model, name, table)


def checked_table(model: Model, name: str, table: Any) -> pd.DataFrame:
    """A user's table, if it ranks every expert of every MoE layer once. Raises InputError with row and value."""
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise InputError(
            f"The ranking {name!r} has no column {missing[0]!r} (it has {', '.join(map(str, table)) or 'none'}); "
            f"{WANTED}."
        )
    twice = [column for column in COLUMNS if list(table).count(column) > 1]
    if twice:
        raise InputError(f"The ranking {name!r} has the column {twice[0]!r} twice; {WANTED}.")
    experts = {layer.index: layer.num_experts for layer in model.anatomy.layers}
    seen: dict[tuple[int, int], Any] = {}
    rows: list[tuple[int, int, str, float]] = []
    for label, *cells in zip(table.index, *(table[column] for column in COLUMNS)):
        layer, expert, score = cells
        where = f"The ranking {name!r}, row {label!r}:"
        for column, value in (("layer", layer), ("expert", expert)):
            if (
                isinstance(value, bool)
                or not isinstance(value, numbers.Real)
                or value != int_of(value)
            ):
                raise InputError(f"{where} {column} is {value!r}; a whole number was expected.")
        layer, expert = int(layer), int(expert)
        if layer not in experts:
            raise InputError(
                f"{where} layer is {layer}, and {model.name} has its experts in layers "
                f"{', '.join(map(str, experts))}."
            )
        if not 0 <= expert < experts[layer]:
            raise InputError(
                f"{where} expert is {expert}, and layer {layer} of {model.name} has experts 0 to "
                f"{experts[layer] - 1}."
            )
        if (
            isinstance(score, bool)
            or not isinstance(score, numbers.Real)
            or math.isnan(float(score))
        ):
            raise InputError(
                f"{where} score is {score!r}; a number was expected, higher for experts that are to stay."
            )
        if (layer, expert) in seen:
            raise InputError(
                f"{where} layer {layer}, expert {expert} stands in row {seen[layer, expert]!r} already. Each expert "
                "has one score."
            )
        seen[layer, expert] = label
        rows.append((layer, expert, name, float(score)))
    absent = [(i, e) for i, count in experts.items() for e in range(count) if (i, e) not in seen]
    if absent:
        layer, expert = absent[0]
        raise InputError(
            f"The ranking {name!r} has no row for layer {layer}, expert {expert}: {len(absent)} of "
            f"{sum(experts.values())} experts are missing. {WANTED.capitalize()}."
        )
    return pd.DataFrame(rows, columns=["layer", "expert", "criterion", "score"])


def int_of(value: Any) -> int | None:
    """The whole part of a number; None where it has none."""
    return int(value) if math.isfinite(value) else None
