"""The slower exact path: batched full forwards, for models in which a lone row cannot follow.

State-space layers, linear attention, convolutions over tokens, sparse attention: a counterfactual
there is one more copy of the whole document with the router's answer edited at one position. The
first copy of each batch is not edited: the others are measured against it.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch

from moeaudit.models import MoELayer
from moeaudit.models.forward import ExpertsSeen, clean_pass

from ..operators.routing import Edits, Routing, edited_answer
from ..outcomes.compare import Outcomes, drift, measure_steps
from .births import routing_at
from .plan import Walked, WalkPlan, walked

_TOKENS = 1 << 14  # tokens in one batch of copies
_LOGITS = 1 << 25  # logits of one batch of copies


class FullForwards:
    """Effects of one document, one copy of the document for each counterfactual."""

    def __init__(self, plan: WalkPlan, ids: torch.Tensor, positions: torch.Tensor) -> None:
        self.plan, self.ids, self.positions = plan, ids, positions
        tokens = ids.shape[1]
        steps = plan.steps(tokens, int(positions.min()))
        ahead = positions[:, None] + torch.arange(steps, device=positions.device)
        self.at = ahead.clamp(max=tokens - 1)  # (positions, steps)
        self.drift = 0.0

    @torch.no_grad()
    def run(self) -> Walked:
        plan = self.plan
        everywhere = list(plan.model.anatomy.layers) if plan.frozen else plan.layers
        clean, seen = clean_pass(plan.model, everywhere, self.ids)
        answers: list[tuple[Routing, Edits]] = []
        for moe in plan.layers:
            routing = routing_at(moe, seen[moe.index], self.positions)
            answers.append((routing, plan.intervention.edits(routing)))
        parts = [self._layer(clean, seen, *answer) for answer in answers]
        return walked(plan, self.positions, answers, Outcomes.joined(parts, 1), self.drift)

    def _layer(
        self, clean: torch.Tensor, seen: dict[int, ExpertsSeen], routing: Routing, edits: Edits
    ) -> Outcomes:
        plan = self.plan
        p, rows, changes = edits.expert.shape
        (tokens, vocab), device = clean.shape, self.ids.device
        targets, empty = self.ids[0, 1:], edits.empty.flatten()
        which = torch.arange(p, device=device).repeat_interleave(rows)  # (positions * rows,)
        at = self.positions[which]
        before = seen[routing.layer.index]
        # Slots in the model's own order here: the answer is edited, not replaced.
        index, weight = edited_answer(
            before.index[at],
            before.weight[at],
            edits.expert.reshape(-1, changes),
            edits.change.reshape(-1, changes),
        )
        copies = max(1, min(_TOKENS // tokens, _LOGITS // (tokens * vocab)))
        vector = None if edits.vector is None else edits.vector.flatten(0, 1)
        parts = []
        for a in range(0, p * rows, copies):
            part = slice(a, a + copies)
            extra = None if vector is None else vector[part]
            logits = self._copies(seen, routing.layer, index[part], weight[part], at[part], extra)
            places = self.at[which[part]]  # (copies, steps)
            self.drift = max(self.drift, drift(clean[:-1], logits[0, :-1], targets))
            # An edit of nothing is the copy without an edit itself.
            copy = torch.arange(1, len(logits), device=device).masked_fill(empty[part], 0)
            edited = logits[copy[:, None], places][:, None]
            alone, here = logits[0, places], at[part]
            parts.append(measure_steps(alone, edited, self.ids[0], here, *plan.measured))
        flat = Outcomes.joined(parts, 0)
        return flat.reshaped(p, rows)

    def _copies(
        self,
        seen: dict[int, ExpertsSeen],
        moe: MoELayer,
        index: torch.Tensor,
        weight: torch.Tensor,
        at: torch.Tensor,
        vector: torch.Tensor | None,
    ) -> torch.Tensor:
        """Logits `"1+copies tokens vocab"`; the answer at `at[c]` is `index[c]`, `weight[c]` in copy 1+c."""
        count, tokens = len(at) + 1, self.ids.shape[1]
        flat = torch.arange(1, count, device=at.device) * tokens + at

        def edit(module: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:  # noqa: ARG001
            hidden, old_index, old_weight = [*args, *kwargs.values()][:3]
            spare = index.shape[1] - old_index.shape[1]
            new_index = torch.nn.functional.pad(old_index, (0, spare))
            new_weight = torch.nn.functional.pad(old_weight, (0, spare))
            new_index[flat] = index.to(new_index.dtype)
            new_weight[flat] = weight.to(new_weight.dtype)
            return (hidden, new_index, new_weight), {}

        def add(module: Any, args: tuple, output: torch.Tensor) -> torch.Tensor | None:  # noqa: ARG001
            if vector is None:
                return None
            output = output.clone()
            output.view(count * tokens, -1)[flat] += vector.to(output.dtype)
            return output

        with ExitStack() as stack:
            if self.plan.frozen:
                for layer in self.plan.model.anatomy.layers:
                    hook = _frozen(seen[layer.index], count)
                    handle = layer.experts.register_forward_pre_hook(hook, with_kwargs=True)
                    stack.callback(handle.remove)
            handle = moe.experts.register_forward_pre_hook(edit, with_kwargs=True)
            stack.callback(handle.remove)
            stack.callback(moe.experts.register_forward_hook(add).remove)
            ids = self.ids.expand(count, -1)
            return self.plan.model.hf(input_ids=ids, use_cache=False).logits


def _frozen(clean: ExpertsSeen, copies: int):
    """A hook that gives every copy the clean router's answer."""

    def hook(module: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:  # noqa: ARG001
        hidden = [*args, *kwargs.values()][0]
        return (hidden, clean.index.repeat(copies, 1), clean.weight.repeat(copies, 1)), {}

    return hook
