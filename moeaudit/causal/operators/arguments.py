"""What operators were given: wrong arguments are refused when the operator is made, not later."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

from moeaudit.errors import InputError


def is_whole(value: Any) -> bool:
    """Whether this is a whole number, of Python or NumPy; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def require_whole_numbers(operator: str, values: Any) -> None:
    """Raise InputError unless `values` is None or several different whole numbers."""
    if values is None:
        return
    given = list(values) if isinstance(values, Iterable) else []
    if not given or not all(map(is_whole, given)) or len(set(given)) < len(given):
        raise InputError(
            f"{operator}({values!r}): different whole numbers in a tuple were expected, such as "
            f"{operator}((1, 2)); leave them out for all."
        )
