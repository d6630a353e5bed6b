"""The slower exact path: batched full forwards, for models in which a lone row cannot follow.

State-space layers, linear attention, convolutions over tokens, sparse attention: a counterfactual
there is one more copy of the whole document with the router's answer edited at one position.
"""

from __future__ import annotations

from typing import Any

import torch

from .clean import ExpertsSeen, clean_pass
from .interventions import Edits, Routing, edited_answer, rank_order
from .outcomes import Outcomes, compare
from .wavefront import Walked, WalkPlan, joined

_TOKENS = 1 << 14  # tokens in one batch of copies
_LOGITS = 1 << 25  # logits of one batch of copies


class FullForwards:
    """Effects of one document, one copy of the document for each counterfactual."""

    def __init__(self, plan: WalkPlan, ids: torch.Tensor, positions: torch.Tensor) -> None:
        self.plan, self.ids, self.positions = plan, ids, positions

    @torch.no_grad()
    def run(self) -> Walked:
        clean, seen = clean_pass(self.plan.model, self.plan.layers, self.ids)
        answers: list[tuple[Routing, Edits]] = []
        for moe in self.plan.layers:
            at = seen[moe.index]
            index, weight = rank_order(at.index[self.positions], at.weight[self.positions])
            routing = Routing(moe, index, weight, at.hidden[self.positions], self.positions)
            answers.append((routing, self.plan.intervention.edits(routing)))
        parts = [self._layer(clean, seen, *answer) for answer in answers]
        return Walked(
            positions=self.positions,
            layer=torch.cat([torch.full((e.rank.shape[1],), r.layer.index) for r, e in answers]),
            rank=torch.cat([e.rank for _, e in answers], 1),
            expert=torch.cat([e.named(r)[0] for r, e in answers], 1),
            weight=torch.cat([e.named(r)[1] for r, e in answers], 1),
            outcomes=Outcomes(
                torch.cat([part.delta_nll for part in parts], 1),
                torch.cat([part.kl for part in parts], 1),
                torch.cat([part.flip for part in parts], 1),
            ),
            about=joined([e.about for _, e in answers]),
        )

    def _layer(
        self, clean: torch.Tensor, seen: dict[int, ExpertsSeen], routing: Routing, edits: Edits
    ) -> Outcomes:
        p, rows, changes = edits.expert.shape
        tokens, vocab = self.ids.shape[1], clean.shape[-1]
        at = self.positions.repeat_interleave(rows)  # (positions * rows,)
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
        target = self.ids[0, self.positions + 1].repeat_interleave(rows)
        parts = []
        for a in range(0, p * rows, copies):
            part = slice(a, a + copies)
            extra = None if vector is None else vector[part]
            edited = self._copies(routing, index[part], weight[part], at[part], extra)
            parts.append(compare(clean[at[part]], edited[:, None], target[part]))
        return Outcomes(
            torch.cat([part.delta_nll for part in parts]).view(p, rows),
            torch.cat([part.kl for part in parts]).view(p, rows),
            torch.cat([part.flip for part in parts]).view(p, rows),
        )

    def _copies(
        self,
        routing: Routing,
        index: torch.Tensor,
        weight: torch.Tensor,
        at: torch.Tensor,
        vector: torch.Tensor | None,
    ) -> torch.Tensor:
        """Logits at position `at[c]` of copy c, whose answer there is `index[c]`, `weight[c]`."""
        count, tokens = len(at), self.ids.shape[1]
        flat = torch.arange(count, device=at.device) * tokens + at

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

        handle = routing.layer.experts.register_forward_pre_hook(edit, with_kwargs=True)
        added = routing.layer.experts.register_forward_hook(add)
        try:
            logits = self.plan.model.hf(
                input_ids=self.ids.expand(count, -1), use_cache=False
            ).logits
        finally:
            handle.remove()
            added.remove()
        return logits[torch.arange(count, device=at.device), at]
