"""The errors a user can meet. Each message says what was wrong, what was expected, what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import ClassVar, TypeVar

T = TypeVar("T")


class MoeAuditError(Exception):
    """Base class; the command line prints its message as one paragraph and exits with status 2.

    `page` is the page of the documentation that says what such an error means and what to do, as a path in the
    repository, and `headings` what a message of a heading of that page says (a pattern); `where` leads to it. A
    traceback names that in the line below the message (`__notes__`); `str(error)` is the message alone.
    """

    page: ClassVar[str] = "docs/errors/index.md"
    headings: ClassVar[Mapping[str, str]] = {}

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.add_note(f"See {self.where}")

    @property
    def where(self) -> str:
        """`page`, with the heading that speaks of this message if one does: a path in a checkout, an address where
        moeaudit was installed without its documentation."""
        said = " ".join(map(str, self.args))
        known = (
            f"#{slug(at)}" for at, pattern in self.headings.items() if re.search(pattern, said)
        )
        return f"{_opened(self.page)}{next(known, '')}"


class InputError(MoeAuditError, ValueError):
    """The caller's input (text, option, table) cannot be used as it is."""

    page = "docs/errors/input.md"
    headings = {
        "A word that is not one of the choices": r"^There is no outcome called|^Unknown .* Choose one of",
        "A layer that is not there": r"does not exist in this .* decoder layers",
        "Text that is a path, or a path that is not there": r"^There is no file or folder",
        "Too few documents": r"distinct document\(s\); an audit needs",
        "An operator without brackets": r"is no operator\. Give one such as",
        "A table that lacks a column": r"lacks the columns? ",
        "Effects of different questions": r"effects of different questions",
        "A smallest effect of interest that cannot be read": r"effect of interest .* cannot be read",
        "A share below what a token needs": r"^Keeping .* leaves",
        "A probability that is none": r"are not in \[0, 1\]",
        "A model that was not loaded": r"as its model; load it first",
    }


class ModelError(MoeAuditError, ValueError):
    """The model cannot be loaded, or is not one this package can audit."""

    page = "docs/errors/model.md"
    headings = {
        "A name that leads nowhere": r"is not a bundled model",
        "Not a Mixture-of-Experts model": r"is not a Mixture-of-Experts model",
        "A device or a kind of number that is not here": r"is not the name of a device",
        "A kind of number that does not exist": r"^dtype = .* is unknown",
        "Weights that do not fit": r"cannot be streamed within",
        "Options for an object that is already loaded": r"that is already loaded",
        "NaN or infinite weights": r"are NaN or infinite",
        "A row does something else than the text does": r"does something else with the token's hidden",
    }


class ContractError(ModelError):
    """A MoE whose router contract does not hold; names the layer, the class and what is missing."""

    page = "docs/errors/contract.md"
    headings = {
        "Experts that are called in another way": r"is not called as experts\(",
        "A declared layer without experts": r"declares MoE layers",
        "Two groups of experts in one layer": r"calls two groups of routed experts",
    }


class RunError(MoeAuditError):
    """A run folder cannot be used: it holds another run, or is damaged."""

    page = "docs/errors/run.md"
    headings = {
        "Not a run folder": r"is not a run folder",
        "A folder that holds something else": r"is not empty and holds",
        "Another question": r"holds the answer to another question",
        "A damaged file": r" is damaged",
        "A plan that was changed": r"is not a plan in the format",
        "A report that would overwrite something": r"exists and is not a report of moeaudit",
        "Not finished": r"was not finished|is writing to",
        "Parts": r"is no part of one|Part .* is missing|overlap: both are|parts of different questions",
    }


class OutOfMemory(MoeAuditError):
    """Memory ran out. Never a verdict about a model, and no RuntimeError, so that none is made of it."""

    page = "docs/errors/out-of-memory.md"
    headings = {"Memory ran out": r"^Memory ran out"}


def slug(heading: str) -> str:
    """What a heading is called in an address, by GitHub and by the site alike."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@cache
def _opened(page: str) -> str:
    """A page as something to open: its path in a checkout, else its address on the project's site, if that is known."""
    if (Path(__file__).parents[1] / page).is_file():
        return page
    from importlib import metadata

    try:
        known = metadata.metadata("moeaudit").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        known = []
    for each in known:
        name, _, address = each.partition(", ")
        if name == "Documentation":
            return f"{address.rstrip('/')}/{page.removeprefix('docs/')}"
    return page


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
