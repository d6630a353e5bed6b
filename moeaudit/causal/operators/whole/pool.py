"""Every document chooses from a pool of experts of its own: EMO's mask, on any model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int

from moeaudit.errors import InputError, one_of
from moeaudit.models import MoELayer
from moeaudit.models.anatomy import Anatomy
from moeaudit.models.experts.pool import document_pool, router_probabilities
from moeaudit.models.router import answer_without
from moeaudit.seeds import check_seed

from ..base import is_whole, require_whole_numbers
from ..draws import splitmix64, wrapped
from .base import WholeModel

Draw = Literal["own", "random"]


@dataclass(frozen=True)
class DocumentPool(WholeModel):
    r"""Let each document choose, in every layer, only from the pool of `size` experts that it prefers.

    The pool D of a layer is the `size` experts of the largest mean router probability over the document's
    tokens; the other logits go to minus infinity, the softmax is taken again inside the pool, and the model's
    own rule chooses: $y'_t = \sum_{s} w'_s E_{i'_s}(x_t)$ with
    $(i', w') = \mathrm{router}(x_t \mid i' \in D)$. Pools are made layer by layer with the masks of the layers below
    in force, as in EMO (Wang, Bhagia & Min, arXiv 2605.06663).
    A pool of all experts is the model itself. `only` names the layers that are masked, None for all. The whole
    document decides, later tokens too: no number of this operator is that of a causal language model. A document
    longer than the context is read in pieces, and each piece has its own pool.

    With `draw="random"` the pool is a random set of `size` experts instead, one for each document and layer, by
    `seed`: the control of equal size that says whether it is the document's own choice that counts.

    One row for each position, with layer, rank and expert -1; the weight is the gate weight that the
    clean pass gave to experts outside the pool, summed over layers.

    Raises InputError for a pool smaller than top-k or larger than the layer; ContractError for a router that
    shows no score of every expert or cannot be made to choose others.
    """

    size: int
    only: tuple[int, ...] | None = None
    draw: Draw = "own"
    seed: int = 0

    @property
    def draws(self) -> bool:  # type: ignore[override]
        return self.draw == "random"

    def __post_init__(self) -> None:
        if not is_whole(self.size) or self.size < 1:
            raise InputError(
                f"DocumentPool({self.size!r}): the number of experts that a document may choose from was expected, a "
                "whole number, at least the model's top-k."
            )
        require_whole_numbers("DocumentPool", self.only)
        one_of(self.draw, ("own", "random"), "draw")
        check_seed(self.seed)

    @property
    def name(self) -> str:
        how = "the document's own" if self.draw == "own" else f"random, seed {self.seed}"
        return f"pool of {self.size} experts a document ({how})"

    def layers(self, anatomy: Anatomy, asked: Iterable[int] | None = None) -> list[MoELayer]:
        """The layers that are masked. Raises InputError where one does not exist, and for a pool that does not fit."""
        layers = anatomy.select(None if self.only is None else list(self.only))
        left_out = set() if asked is None else {layer.index for layer in layers} - set(asked)
        if left_out:
            raise InputError(
                f"{self.name!r} masks layers {[layer.index for layer in layers]}, and layers {sorted(left_out)} are "
                "not among those that were asked for. Leave `layers` out, and name those to mask in "
                "DocumentPool(..., only=(...))."
            )
        for layer in layers:
            if not layer.top_k <= self.size <= layer.num_experts:
                raise InputError(
                    f"{layer.name} gives each token {layer.top_k} of {layer.num_experts} experts, and a pool of "
                    f"{self.size} was asked for. Name from {layer.top_k} (every token of a document then has the same "
                    f"experts) to {layer.num_experts} (the model as it is)."
                )
        return layers

    def pool(
        self,
        layer: MoELayer,
        hidden: Float[torch.Tensor, "tokens d_model"],
        document: int = 0,
    ) -> Bool[torch.Tensor, " experts"]:
        """The experts that a document may choose; of a random pool, by its key and the layer alone."""
        if self.draw == "own":
            return document_pool(router_probabilities(layer, hidden), self.size)
        start = wrapped(self.seed * 0x9E3779B97F4A7C15 + document)
        place = splitmix64(torch.tensor(layer.index * 1_000_003 + 1) + start)
        keys = splitmix64(place + torch.arange(layer.num_experts) * 0x632BE59BD9B4E019)
        mask = torch.zeros(layer.num_experts, dtype=torch.bool)
        return mask.index_fill(0, keys.argsort()[: self.size], True).to(hidden.device)

    def answer(
        self,
        layer: MoELayer,
        hidden: Float[torch.Tensor, "tokens d_model"],
        index: Int[torch.Tensor, "tokens top_k"],  # noqa: ARG002
        weight: Float[torch.Tensor, "tokens top_k"],  # noqa: ARG002
        document: int = 0,
    ) -> tuple[Int[torch.Tensor, "tokens top_k"], Float[torch.Tensor, "tokens top_k"]]:
        banned = ~self.pool(layer, hidden, document)
        return answer_without(layer, hidden, banned.expand(len(hidden), -1), "remaining")

    def removed(
        self,
        layer: MoELayer,
        hidden: Float[torch.Tensor, "tokens d_model"],
        index: Int[torch.Tensor, "tokens top_k"],
        weight: Float[torch.Tensor, "tokens top_k"],
        document: int = 0,
    ) -> Float[torch.Tensor, " tokens"]:
        outside = ~self.pool(layer, hidden, document)[index.long()]
        return (outside * weight).sum(-1)
