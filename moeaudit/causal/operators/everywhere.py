"""The same edit at every position of a document, instead of at one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Int

from moeaudit.errors import InputError
from moeaudit.models import MoELayer

from .base import BaseOperator, from_dict
from .routing import Edits, Operator, Routing, require_operator


@dataclass(frozen=True)
class Everywhere(BaseOperator):
    r"""Make the edit of `operator` at every position of the document at once.

    With `by="expert"` a row about expert e in layer l gets, at every position where e is active
    there, the edit that `operator` makes about e: $y'_t = \mathrm{op}(y_t, e)$ for all t with e among the active
    experts of t, $y'_t = y_t$ for the others. With `by="rank"` row r of every position is
    edited, whichever expert it is about there. The table has the rows of `operator`; a row's outcome is
    still that of the prediction after position t, now with the same edit made at all
    earlier positions too, so what reaches t through attention is in it.

    Copies of the document run in full forwards, one for each layer and distinct edit: T times
    fewer than one for each token, but no longer part of the one walk. Do not compare the numbers
    with single-position effects as if they were the same quantity.

    Raises InputError for an operator whose rows are about several experts (`Skip`, `Coalitions`)
    unless `by="rank"`, and for operators that edit a whole document already.
    """

    operator: Operator
    by: Literal["expert", "rank"] = "expert"

    scope = "document"

    def __post_init__(self) -> None:
        name = getattr(self.operator, "name", type(self.operator).__name__)
        if self.by not in ("expert", "rank"):
            raise InputError(f"Everywhere(by={self.by!r}): 'expert' or 'rank' was expected.")
        require_operator(self.operator)
        if self.operator.scope != "position":
            raise InputError(
                f"Everywhere() was given {name!r}, which is no edit of a single position. Give it an operator such "
                "as Zero(), Renormalize() or Reroute()."
            )
        if hasattr(self.operator, "later"):
            raise InputError(
                f"Everywhere() was given {name!r}, which edits several layers. To take an expert of a bank from every "
                "token write Without({1: [e], 2: [e]}, rule='zero'), the layers of the bank by number."
            )
        if self.by == "expert" and not getattr(self.operator, "of_one_expert", True):
            raise InputError(
                f"The rows of {name!r} are not about one active expert, so there is no expert to follow through "
                "the document. Write Everywhere(..., by='rank'): row r of every position is edited."
            )

    @property
    def name(self) -> str:
        return f"{self.operator.name} everywhere, by {self.by}"

    def to_dict(self) -> dict[str, Any]:
        return {"operator": "Everywhere", "of": self.operator.to_dict(), "by": self.by}

    @classmethod
    def restored(cls, arguments: Mapping[str, Any], held_out: Any) -> Everywhere:
        return cls(from_dict(arguments["of"], held_out=held_out), by=arguments["by"])

    def rows(self, layer: MoELayer) -> int:
        return self.operator.rows(layer)

    def edits(self, routing: Routing) -> Edits:
        """Not to be had: the edit is of a whole document. Raises InputError."""
        raise InputError(
            f"{self.name!r} edits every position of a document, so it is no edit of single positions in layer "
            f"{routing.layer.index}. Give it to ablate(), or use the operator inside: {self.operator.name!r}."
        )

    def copies(self, routing: Routing, edits: Edits) -> Int[torch.Tensor, "tokens rows"]:
        """Which edited copy of the document each row belongs to, counted from 0.

        `routing` and `edits` are those of the operator inside, at every position of the document.
        """
        rows = torch.arange(edits.rank.shape[1], device=edits.rank.device).expand_as(edits.rank)
        if self.by == "rank":
            return rows
        expert = edits.named(routing)[0]
        # Rows about the same expert at one position (Swap("all")) are edits of their own, told
        # apart by their place among them.
        same = expert[:, :, None] == expert[:, None, :]  # (tokens, rows, rows)
        place = same.tril(-1).sum(-1)
        both = expert * (int(place.max()) + 1) + place
        return both.unique(return_inverse=True)[1].view_as(expert)
