"""What operators have in common: a scope, and a way to be written down. No hooks, no engines."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral
from typing import Any, ClassVar, Literal

from moeaudit.errors import InputError

from .routing import Operator

Scope = Literal["position", "document", "model"]

# By class name, then by where the class is defined: a notebook may run a definition again.
_OPERATORS: dict[str, dict[tuple[str, str], type[BaseOperator]]] = {}


class BaseOperator:
    """The base of the operators here; an operator of your own needs only the protocol `Operator`.

    A subclass is found by its class name when a table is read back.
    The public methods `as_transformer_lens_hooks` and `apply_in_trace` are functions of
    `moeaudit.causal.check.handover`, which are put here from there: operators know neither library.
    """

    # One token at a time, every token of a document, or every token in several layers.
    scope: Scope = "position"
    # Whether each row is about one active expert, which can then be followed through a document.
    of_one_expert: ClassVar[bool] = True
    # Whether tables say which experts do the work after the edit; where none enters, the columns
    # `rank` and `expert` say it already.
    tells_routing: ClassVar[bool] = True
    # Whether it draws at random, and so must know which document it is in.
    draws: ClassVar[bool] = False

    as_transformer_lens_hooks: Callable[..., Any]
    apply_in_trace: Callable[..., None]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__name__.startswith("_"):  # a step between operators, not one of them
            return
        place = (cls.__module__, cls.__qualname__)
        _OPERATORS.setdefault(cls.__name__, {})[place] = cls

    def to_dict(self) -> dict[str, Any]:
        """The operator as plain JSON types: its class under `operator`, and its arguments."""
        fields = dataclasses.fields(self) if dataclasses.is_dataclass(self) else ()
        values = {f.name: _written(getattr(self, f.name)) for f in fields}
        return {"operator": type(self).__name__, **values}

    @classmethod
    def restored(cls, arguments: Mapping[str, Any], held_out: Any) -> Any:  # noqa: ARG003
        """The operator from what `to_dict` wrote, less its class. `held_out` is for those that need it."""
        return cls(**{name: _read(value) for name, value in arguments.items()})


def from_dict(values: Mapping[str, Any], *, held_out: Any = None) -> Operator:
    """The operator that `to_dict` wrote down.

    `held_out` are the expert outputs of `MeanOutput` and `Resample`, which are too large to be
    written into a table. Raises InputError for an operator that is not known here or is
    there twice, that needs
    `held_out` or other outputs than those given, or that cannot be restored (`Custom`).
    """
    arguments = dict(values)
    name = arguments.pop("operator", None)
    kinds = list(_OPERATORS.get(name, {}).values()) if isinstance(name, str) else []
    if len(kinds) > 1:
        where = " and ".join(kind.__module__ for kind in kinds)
        raise InputError(
            f"There are several operators called {name} ({where}), and a table names its operator by the class "
            "alone. Pass the operator itself, or give one of them another name."
        )
    if not kinds:
        raise InputError(
            f"The operator {name!r} is not known here; there are {', '.join(sorted(_OPERATORS))}. Import the module "
            "that defines it first, or pass the operator itself."
        )
    return kinds[0].restored(arguments, held_out)


def _written(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): _written(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_written(each) for each in value]
    if value is None or isinstance(value, bool | str | float):
        return value
    return int(value)


def _read(value: Any) -> Any:
    return tuple(map(_read, value)) if isinstance(value, list | tuple) else value


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
