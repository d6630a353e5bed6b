"""Full forwards of edited copies of a document: the one engine below the wavefront.

It computes what rows cannot: edits of every position of a document, edits of several layers, and
single edits of models in which a lone row cannot follow (state-space layers, linear attention,
convolutions over tokens, sparse attention). The first copy of a batch is not edited where others
are measured against it, so that a batch's rounding is no effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int

from moeaudit.models import Model, MoELayer
from moeaudit.models.forward import ExpertsSeen, answering
from moeaudit.models.router import without_experts

from ..operators.whole.without import Without


@dataclass(frozen=True)
class Answer:
    """What stands in place of a router's answer at every token of one copy."""

    index: Int[torch.Tensor, "tokens slots"]
    weight: Float[torch.Tensor, "tokens slots"]
    # Added to the routed output besides.
    vector: Float[torch.Tensor, "tokens d_model"] | None = None


# From what one copy's experts are given (hidden "tokens d_model", index and weight "tokens top_k") to
# what stands in its place.
Edit = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Answer]


@torch.no_grad()
def run(
    model: Model, ids: Int[torch.Tensor, "1 tokens"], copies: Sequence[Mapping[int, Edit]]
) -> Float[torch.Tensor, "copies tokens vocab"]:
    """Logits of the document once a copy, each with its own edits by decoder layer index."""
    with ExitStack() as stack:
        for layer in model.anatomy.layers:
            edits = [copy.get(layer.index) for copy in copies]
            if any(edit is not None for edit in edits):
                stack.enter_context(_edited(layer, edits))
        return model.hf(input_ids=ids.expand(len(copies), -1), use_cache=False).logits


def _edited(layer: MoELayer, edits: Sequence[Edit | None]):
    """The layer's experts get each copy's own answer, padded to as many slots as the widest has."""
    vectors: list[torch.Tensor | None] = []

    def answer(
        hidden: torch.Tensor, index: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        parts = zip(*(x.chunk(len(edits)) for x in (hidden, index, weight)))
        answers = [
            Answer(i, w) if edit is None else edit(h, i, w) for edit, (h, i, w) in zip(edits, parts)
        ]
        vectors[:] = [each.vector for each in answers]
        slots = max(each.index.shape[1] for each in answers)
        # Expert 0 with weight 0 fills the slots that need nothing; never a sentinel index.
        pad = torch.nn.functional.pad
        return (
            torch.cat([pad(a.index, (0, slots - a.index.shape[1])) for a in answers]),
            torch.cat([pad(a.weight, (0, slots - a.weight.shape[1])) for a in answers]),
        )

    def add(output: torch.Tensor) -> torch.Tensor | None:
        if all(vector is None for vector in vectors):
            return None
        nothing = torch.zeros_like(output[: len(output) // len(edits)])
        return torch.cat([nothing if v is None else v.to(output.dtype) for v in vectors])

    return answering(layer, answer, add)


def frozen(clean: ExpertsSeen) -> Edit:
    """The clean router's answer, whatever the copy's hidden states are."""
    return lambda hidden, index, weight: Answer(clean.index, clean.weight)  # noqa: ARG005


def at_position(
    clean: ExpertsSeen | None,
    position: int,
    index: Int[torch.Tensor, " slots"],
    weight: Float[torch.Tensor, " slots"],
    vector: Float[torch.Tensor, " d_model"] | None,
) -> Edit:
    """Another answer at one position; the others keep theirs, or the clean one where it is given."""

    def edit(hidden: torch.Tensor, own: torch.Tensor, weighs: torch.Tensor) -> Answer:
        if clean is not None:
            own, weighs = clean.index, clean.weight
        pad = (0, len(index) - own.shape[1])
        after = torch.nn.functional.pad(own, pad).clone()
        weighed = torch.nn.functional.pad(weighs, pad).clone()
        after[position], weighed[position] = index.to(after.dtype), weight.to(weighed.dtype)
        if vector is None:
            return Answer(after, weighed)
        added = torch.zeros_like(hidden)
        added[position] = vector.to(added.dtype)
        return Answer(after, weighed, added)

    return edit


@contextmanager
def applied(operator: Without, model: Model) -> Iterator[None]:
    """Inside, every forward of `model`, of any batch shape, is that of the model without these experts."""
    layers = operator.layers(model.anatomy)
    with ExitStack() as stack:
        if operator.rule == "absent":
            stack.enter_context(without_experts(model, operator.experts, operator.scores))
        else:
            for layer in layers:
                stack.enter_context(answering(layer, _zeroed(operator, layer)))
        yield


def _zeroed(operator: Without, layer: MoELayer):
    return lambda hidden, index, weight: operator.answer(layer, hidden, index, weight)
