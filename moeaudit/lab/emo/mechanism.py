"""EMO's document pools as a training mechanism: `[mechanisms.emo]` of a recipe."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from moeaudit.errors import InputError
from moeaudit.seeds import check_seed, generator

from ..training.mechanism import Batch, Mechanism


def pools(
    probabilities: Float[Tensor, "tokens experts"],
    document: Int[Tensor, " tokens"],
    size: Int[Tensor, " documents"],
) -> Bool[Tensor, "tokens experts"]:
    """Which experts each token may choose: the `size[d]` of the largest mean probability over its document d.

    `document` counts from 0. Of equal means the lower number stands first, as in `moeaudit.DocumentPool`.
    """
    means = probabilities.new_zeros(len(size), probabilities.shape[1], dtype=torch.float64)
    means.index_add_(0, document, probabilities.double())
    count = torch.bincount(document, minlength=len(size)).clamp_min(1)
    order = (means / count[:, None]).sort(dim=-1, descending=True, stable=True).indices
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    return (rank < size[:, None])[document]


def pool_sizes(
    batch: Batch, low: int, high: int, seed: int
) -> tuple[Int[Tensor, " tokens"], Int[Tensor, " documents"]]:
    """Documents of the tokens counted from 0, and a size of pool for each, uniform in low..high.

    A draw depends on the seed, what the step reads and the document alone: nothing is kept between steps, so a run
    that was interrupted goes on with the draws it would have made, and all layers of a step have the same sizes.
    """
    number, document = batch.document.flatten().unique(return_inverse=True)
    step = hashlib.sha256(batch.ids.cpu().contiguous().numpy().tobytes()).hexdigest()
    size = [
        int(generator(seed, "emo pool", step, d).integers(low, high + 1)) for d in number.tolist()
    ]
    return document, torch.tensor(size, device=document.device)


@dataclass(frozen=True)
class Emo(Mechanism):
    """In every layer a document's tokens choose among the d experts that the document prefers.

    d is drawn anew for each document and step, uniformly from `smallest` (None: the model's top-k) to `largest`
    (None: all experts); the pool is made of the router's probabilities of the step. The mask is in training alone: the
    trained model is a plain one. Wang, Bhagia & Min (arXiv 2605.06663), section 4.1 of whose code draws 8 to
    128 of 128. Balance has to be global: balance within a micro-batch asks each few documents for all
    experts, which is what the pool forbids.

    Raises InputError for a pool smaller than the model's top-k or larger than a layer.
    """

    name: ClassVar[str] = "emo"
    balance: ClassVar[str | None] = "global"

    smallest: int | None = None
    largest: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for name in ("smallest", "largest"):
            given = getattr(self, name)
            whole = isinstance(given, int) and not isinstance(given, bool)
            if given is not None and (not whole or given < 1):
                raise InputError(
                    f"[mechanisms.emo] {name} = {given!r}: a number of experts, at least 1, was expected; leave it out "
                    f"for {'the top-k' if name == 'smallest' else 'all experts'}."
                )
        object.__setattr__(self, "_top_k", None)

    def prepare(self, model: nn.Module, config: Any) -> None:  # noqa: ARG002
        top_k = int(config.num_experts_per_tok)
        if self.smallest is not None and self.smallest < top_k:
            raise InputError(
                f"[mechanisms.emo] smallest = {self.smallest}: each token needs {top_k} experts, and a pool smaller "
                f"than that has too few. Name at least {top_k}."
            )
        object.__setattr__(self, "_top_k", top_k)

    def route(
        self, layer: int, logits: Float[Tensor, "tokens experts"], batch: Batch
    ) -> Float[Tensor, "tokens experts"]:
        experts = logits.shape[1]
        low = self.smallest if self.smallest is not None else getattr(self, "_top_k", None)
        if low is None:
            raise InputError(
                "[mechanisms.emo] does not know the model's top-k: prepare(model, config) comes before the first step."
            )
        high = experts if self.largest is None else self.largest
        if not low <= high <= experts:
            raise InputError(
                f"[mechanisms.emo] draws pools of {low} to {high} experts, and layer {layer} has {experts}. Name "
                f"smallest <= largest <= {experts}."
            )
        document, size = pool_sizes(batch, low, high, self.seed)
        with torch.no_grad():
            inside = pools(logits.float().softmax(-1), document, size)
        return logits.masked_fill(~inside, -torch.inf)
