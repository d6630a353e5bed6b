"""What edits of the whole model have in common: a layer's other answer at every token of a document."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

import torch
from jaxtyping import Float, Int

from moeaudit.errors import InputError
from moeaudit.models import MoELayer
from moeaudit.models.anatomy import Anatomy

from ..base import BaseOperator
from ..routing import Edits, Routing

Answered = tuple[Int[torch.Tensor, "tokens slots"], Float[torch.Tensor, "tokens slots"]]


class WholeModel(BaseOperator):
    """An operator of scope "model": every layer it names answers otherwise, at every token of a document.

    A table has one row for each position, with layer, rank and expert -1; the column `weight` is `removed`,
    summed over layers.
    """

    scope = "model"
    of_one_expert = False

    @property
    @abstractmethod
    def name(self) -> str:
        """What the operator is called in tables and on pages."""

    @abstractmethod
    def layers(self, anatomy: Anatomy, asked: Iterable[int] | None = None) -> list[MoELayer]:
        """The layers that are edited, of those `asked` for. Raises InputError for what the model does not have."""

    @abstractmethod
    def answer(
        self,
        layer: MoELayer,
        hidden: Float[torch.Tensor, "tokens d_model"],
        index: Int[torch.Tensor, "tokens top_k"],
        weight: Float[torch.Tensor, "tokens top_k"],
        document: int = 0,
    ) -> Answered:
        """What stands in place of the layer's answer; all tokens of one document, of which `document` is the key."""

    @abstractmethod
    def removed(
        self,
        layer: MoELayer,
        hidden: Float[torch.Tensor, "tokens d_model"],
        index: Int[torch.Tensor, "tokens top_k"],
        weight: Float[torch.Tensor, "tokens top_k"],
        document: int = 0,
    ) -> Float[torch.Tensor, " tokens"]:
        """The gate weight that the clean pass gave to what the edit takes away.

        `index` and `weight` are the clean pass's; `hidden` is what the edited layer was given, as in `answer`.
        """

    def rows(self, layer: MoELayer) -> int:  # noqa: ARG002
        """One row a position, of all layers together (`rows_by_layer`)."""
        return 1

    def edits(self, routing: Routing) -> Edits:
        """Not to be had: the edit is of the whole model. Raises InputError."""
        raise InputError(
            f"{self.name!r} is an edit of every position in all of its layers, so it is no edit of single positions "
            f"in layer {routing.layer.index}. Give it to ablate(), or use Zero() or Reroute()."
        )
