"""One expert of a bank that several layers share, removed for one token wherever it is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from moeaudit.models import MoELayer
from moeaudit.stats.sets.groups import groups_of

from ..base import BaseOperator
from ..routing import Edits, Routing
from ..weights import Zero


@dataclass(frozen=True)
class Bank(BaseOperator):
    r"""Remove one expert for one token at its layer and at every later layer of the same bank.

    `groups` are layers that share their experts (Expert Tying): `Bank(model.anatomy.tied)`, or by number
    `Bank(((1, 2), (3, 4)))`. The row of a layer, rank and expert e is $y'_l = y_l - w_r E_e(x_l)$ there, and in each
    later layer m of its group $y'_m = y_m - w_e(x'_m)\, E_e(x'_m)$ if the token, with the states that the removal left
    it, goes to e there again: also where it did not before. The other weights stay as they are.

    So the row of the first layer of the group at which e is active is the removal from the whole bank, and rows of
    later ones are removals from there on; `Zero()` removes the expert in its one layer. Their difference is what
    `moeaudit.bank_additivity` sums up. A layer in no group is a bank of its own. The other tokens of the text keep
    the expert (`Without({1: [e], 2: [e]}, rule="zero")` takes it from all of them).

    Nothing asks whether the layers really share their experts: on layers that do not it is the placebo, experts of
    the same number that have nothing to do with each other.

    Raises InputError for groups that overlap, or are no two layers; when it runs, for layers that do not exist or
    have different numbers of experts.
    """

    groups: Any  # tuples of layer numbers

    tells_routing = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", groups_of(self.groups, "Bank(groups)"))

    @property
    def name(self) -> str:
        said = ", ".join("-".join(map(str, group)) for group in self.groups)
        return f"bank of layers {said}"

    def rows(self, layer: MoELayer) -> int:
        return layer.top_k

    def edits(self, routing: Routing) -> Edits:
        """The edit in the row's own layer; `later` says where it is made again."""
        return Zero().edits(routing)

    def later(self, layer: int) -> tuple[int, ...]:
        """Decoder layers above `layer` in which its rows go on losing their expert."""
        mine = next((group for group in self.groups if layer in group), ())
        return tuple(i for i in mine if i > layer)
