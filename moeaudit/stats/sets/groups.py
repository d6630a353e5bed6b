"""Groups of layers that share one bank of experts: which lists of numbers are such, asked in one place."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

from moeaudit.errors import InputError

Groups = tuple[tuple[int, ...], ...]


def groups_of(given: Any, who: str = "groups") -> Groups:
    """Each group ascending. Raises InputError for what is no group of two layers, and for groups that overlap."""
    lists: list[list[Any]] = [[None]]
    if _listed(given):
        lists = [list(group) if _listed(group) else [None] for group in given]
    if not all(
        isinstance(i, Integral) and not isinstance(i, bool) for group in lists for i in group
    ):
        raise InputError(
            f"{who} = {given!r}: lists of layer numbers were expected, groups of at least two layers that share their "
            "experts, such as [[1, 2], [3, 4]] or model.anatomy.tied."
        )
    found = tuple(tuple(sorted({int(i) for i in group})) for group in lists)
    short = [group for group in found if len(group) < 2]
    if short or not found:
        what = f"the group {list(short[0])}" if short else "no group at all"
        raise InputError(
            f"{who} names {what}; groups of at least two layers share a bank of experts."
        )
    numbers = [i for group in lists for i in group]
    twice = sorted({int(i) for i in numbers if numbers.count(i) > 1})
    if twice:
        raise InputError(
            f"Layer {twice[0]} is in two groups of {lists} (or a layer is named twice in one). Groups must not "
            "overlap: a layer has one bank of experts."
        )
    return found


def _listed(given: Any) -> bool:
    return isinstance(given, Iterable) and not isinstance(given, str)
