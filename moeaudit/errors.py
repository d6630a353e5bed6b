"""The errors a user can meet. Each message says what was wrong, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar, TypeVar

T = TypeVar("T")


class MoeAuditError(Exception):
    """Base class; the command line prints its message as one paragraph and exits with status 2.

    `page` is the page of the documentation that says what such an error means and what to do, as a path in the
    repository. A traceback names it in the line below the message (`__notes__`); `str(error)` is the message alone.
    """

    page: ClassVar[str] = "docs/errors/index.md"

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.add_note(f"See {self.page}")


class InputError(MoeAuditError, ValueError):
    """The caller's input (text, option, table) cannot be used as it is."""

    page = "docs/errors/input.md"


class ModelError(MoeAuditError, ValueError):
    """The model cannot be loaded, or is not one this package can audit."""

    page = "docs/errors/model.md"


class ContractError(ModelError):
    """A MoE whose router contract does not hold; names the layer, the class and what is missing."""

    page = "docs/errors/contract.md"


class RunError(MoeAuditError):
    """A run folder cannot be used: it holds another run, or is damaged."""

    page = "docs/errors/run.md"


class OutOfMemory(MoeAuditError):
    """Memory ran out. Never a verdict about a model, and no RuntimeError, so that none is made of it."""

    page = "docs/errors/out-of-memory.md"


def one_of(
    value: T, choices: Iterable[object], what: str, *, error: type[MoeAuditError] = InputError
) -> T:
    """`value`, if it is one of `choices`; the one way to refuse a wrong choice.

    `what` names the thing in words ("outcome", "effect size") or is the argument ("per="). The
    message says what was given and all that could have been, and guesses at a slip of the pen.

    Raises InputError (or `error`) for anything else.
    """
    known = list(choices)
    if value in known:
        return value
    names = [name for name in known if isinstance(name, str)]
    near = get_close_matches(value, names, n=1) if isinstance(value, str) else []
    meant = f" Did you mean {near[0]}?" if near else ""
    listed = ", ".join(map(str, known))
    named = what if what.endswith("=") else f"{what} "
    raise error(f"Unknown {named}{value!r}. Choose one of {listed}.{meant}")
