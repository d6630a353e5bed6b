"""A set of experts taken out of several layers together: a pruned model, without pruning it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch

from moeaudit.errors import InputError
from moeaudit.models import Model, MoELayer
from moeaudit.models.forward import clean_pass
from moeaudit.models.router import Scores, named_experts, require_enough, without_experts

from ..check.handover import Handover
from ..outcomes.compare import measure
from .everywhere import require_plain
from .routing import Edits, Routing

if TYPE_CHECKING:
    from ..walk.plan import Walked, WalkPlan


class Experts(Handover):
    r"""Take a set of experts out of several layers, at every position: what a pruned model predicts.

    `experts` maps decoder layers to experts, `{3: [0, 5], 4: [1]}`. With `rule="absent"` the router cannot
    choose them and others enter by the model's own rule; `scores="remaining"` takes them out of the
    softmax too, which is the checkpoint without them, `scores="kept"` leaves the others' scores as the
    full router computed them. With `rule="zero"` the choice stays and their weights become 0:
    $y' = \sum_{s:\, i_s \notin D} w_s E_{i_s}(x)$ in every layer named.

    One row for each position, with layer, rank and expert -1; the weight is the gate weight that
    fell on the set in the whole model at this position, summed over layers.

    Raises InputError for layers or experts that do not exist, an empty set, or (absent) fewer than
    top-k experts left; ContractError for a router that cannot be made to choose others.
    """

    of_one_expert = False

    def __init__(
        self,
        experts: Mapping[int, Iterable[int]],
        *,
        scores: Scores = "remaining",
        rule: Literal["absent", "zero"] = "absent",
    ) -> None:
        if rule not in ("absent", "zero") or scores not in ("kept", "remaining"):
            raise InputError(
                f"Experts(scores={scores!r}, rule={rule!r}): scores 'remaining' or 'kept' and rule 'absent' or "
                "'zero' were expected."
            )
        self.experts = {i: tuple(sorted(set(gone))) for i, gone in named_experts(experts).items()}
        self.experts = {i: gone for i, gone in self.experts.items() if gone}
        if not self.experts:
            raise InputError(
                "Experts() names no expert. Name some, such as Experts({3: [0, 5], 4: [1]}); to do nothing "
                "needs no operator."
            )
        self.scores: Scores = scores
        self.rule: Literal["absent", "zero"] = rule

    @property
    def name(self) -> str:
        count = sum(len(gone) for gone in self.experts.values())
        how = "zeroed" if self.rule == "zero" else f"absent, scores {self.scores}"
        return f"{count} experts of {len(self.experts)} layers ({how})"

    def __repr__(self) -> str:
        return f"Experts({self.experts}, scores={self.scores!r}, rule={self.rule!r})"

    def rows(self, layer: MoELayer) -> int:
        """One row a position, counted at the first layer named."""
        return int(layer.index == min(self.experts))

    def edits(self, routing: Routing) -> Edits:
        """Not to be had: the edit is of the whole model. Raises InputError."""
        raise InputError(
            f"{self.name!r} is an edit of every position in layers {list(self.experts)}, so it is no edit of "
            f"single positions in layer {routing.layer.index}. Give it to ablate(), or use Zero() or Reroute()."
        )

    @torch.no_grad()
    def walk(self, plan: WalkPlan, ids: torch.Tensor, positions: torch.Tensor) -> Walked:
        """Effects at `positions` of the document `ids`, `"1 tokens"`."""
        from ..walk.plan import Walked

        require_plain(plan, self.name)
        layers = self._layers(plan)
        clean, seen = clean_pass(plan.model, layers, ids)
        with self.applied(plan.model):
            edited = plan.model.hf(input_ids=ids, use_cache=False).logits[0]
        removed = sum(
            (
                _among(seen[layer.index].index, self.experts[layer.index])
                * seen[layer.index].weight
            ).sum(-1)
            for layer in layers
        )
        assert isinstance(removed, torch.Tensor)
        none = torch.full((len(positions), 1), -1, device=ids.device)
        target = ids[0, positions + 1]
        return Walked(
            positions=positions,
            layer=torch.tensor([-1]),
            rank=none,
            expert=none,
            weight=removed[positions][:, None],
            outcomes=measure(clean[positions], edited[positions][:, None], target, plan.extra),
        )

    def _layers(self, plan: WalkPlan) -> list[MoELayer]:
        layers = plan.model.anatomy.select(list(self.experts))
        left_out = sorted(set(self.experts) - {layer.index for layer in plan.layers})
        if left_out:
            raise InputError(
                f"{self.name!r} names layers {list(self.experts)} itself, and layers {left_out} are not among those "
                "that were asked for. Leave `layers` out."
            )
        for layer in layers:
            _require_experts(plan.model, layer, self.experts[layer.index])
            if self.rule == "absent":
                require_enough(layer, len(self.experts[layer.index]))
        return layers

    @contextmanager
    def applied(self, model: Model) -> Iterator[None]:
        """Inside, `model` runs without these experts, in every forward."""
        if self.rule == "absent":
            with without_experts(model, self.experts, self.scores):
                yield
            return
        with ExitStack() as stack:
            for index, gone in self.experts.items():
                layer = model.anatomy[index]
                _require_experts(model, layer, gone)
                hook = _zeroing(gone)
                handle = layer.experts.register_forward_pre_hook(hook, with_kwargs=True)
                stack.callback(handle.remove)
            yield


def _require_experts(model: Model, layer: MoELayer, experts: Sequence[int]) -> None:
    wrong = [e for e in experts if not 0 <= e < layer.num_experts]
    if wrong:
        raise InputError(
            f"{model.name}: expert {wrong[0]} does not exist in layer {layer.index}, which has experts 0 to "
            f"{layer.num_experts - 1}. Name some of those."
        )


def _among(index: torch.Tensor, experts: Sequence[int]) -> torch.Tensor:
    return torch.isin(index, torch.tensor(list(experts), device=index.device))


def _zeroing(gone: Sequence[int]) -> Any:
    def hook(module: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:  # noqa: ARG001
        hidden, index, weight = [*args, *kwargs.values()][:3]
        return (hidden, index, weight.masked_fill(_among(index, gone), 0.0)), {}

    return hook
