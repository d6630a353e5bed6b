"""What operators have in common: a scope, and a way to be written down. No hooks, no engines."""

from __future__ import annotations

import dataclasses
import html
import inspect
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral
from typing import Any, ClassVar, Literal

from moeaudit.errors import InputError
from moeaudit.frames.shown import clip

from .routing import Operator

Scope = Literal["position", "document", "model"]
SCOPES: dict[str, str] = {
    "position": "Edits one token at a time; the other tokens of the document stay as they are.",
    "document": "Makes the same edit at every token of the document at once.",
    "model": "Edits several layers at every token at once.",
}

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

    def _repr_html_(self) -> str:
        return in_words(self)

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


def sentence(operator: Any) -> str:
    """What the operator does: the first sentence of its docstring, or that it is somebody's own."""
    function = getattr(operator, "fn", None)
    said = inspect.getdoc(function if function is not None else type(operator)) or ""
    first = said.split("\n\n")[0]
    own = f"{type(operator).__name__}("  # what dataclasses write where nobody wrote anything
    if not first or first.startswith(own):
        return "An operator of your own, which does not say what it does."
    return clip(first)


def in_words(operator: Any) -> str:
    inside = getattr(operator, "operator", None)
    within = f" Of it: {html.escape(sentence(inside))}" if inside is not None else ""
    return (
        f"<p><code>{html.escape(clip(repr(operator)))}</code>: {html.escape(sentence(operator))}{within}</p>"
        f"<p><small>{SCOPES[operator.scope]}</small></p>"
    )
