"""The wavefront of a sample: only rows that are drawn are born, and only where some are does one ride along."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ...attention.reroute import RowState
from ...outcomes.compare import Outcomes
from ..births import Birth, births_by_delta, births_by_rerun, routing_at
from ..follow import leaving
from ..head import row_outcomes
from ..plan import Walked, WalkPlan
from ..wavefront import Wavefront
from .flat import drawn, flat_walked, stacked
from .parts import parts_of


def walk_sample(plan: WalkPlan, ids: torch.Tensor, positions: torch.Tensor) -> Walked:
    """The drawn rows at `positions`, by one walk, or by one for each part where one position's do not fit."""
    steps = plan.steps(ids.shape[1], min(positions.tolist()))
    parts = parts_of(plan, steps) if len(positions) == 1 else [plan]
    return stacked([SampledWavefront(part, ids, positions).run() for part in parts])


class SampledWavefront(Wavefront):
    """One walk over one document for a sample of its rows.

    Rows are `(rows, steps, ...)`, each with its `place` among the positions. The pass-through row of a
    position sets out at the first layer in which the position is drawn, from the clean input of that layer;
    `alone` is where it stands among the rows, -1 before.
    """

    def __init__(self, plan: WalkPlan, ids: torch.Tensor, positions: torch.Tensor) -> None:
        super().__init__(plan, ids, positions)
        self.room = plan.rows_at(len(positions), ids.shape[1] - 1)
        self.place = positions.new_zeros(self.room)
        self.row_places: list[int] = []  # in the document, as numbers
        self.alone = positions.new_full((len(positions),), -1)
        self.later: list[torch.Tensor] = []  # where rows other than pass-through ones stand

    def on_layer(self, i: int, state: RowState):
        def hook(layer: Any, args: tuple, kwargs: dict, output: Any) -> None:
            if self.busy:
                return
            self.busy = True
            if isinstance(output, tuple):
                self.tuple_tail = output[1:]
            here = self._drawn(i)
            self._join(here, self.hidden(args, kwargs)[0])
            if self.held is not None:
                call = (i, state, layer, args, kwargs)
                before = self.held[self.alone[here], 0]  # (drawn, ...), a copy
                rows = self.held[: self.born, None]  # (rows, 1, steps, ...)
                at = self.at[self.place[: self.born]]
                more = {"places": self.row_places, "gone": self.gone(i)}
                self._through(*call, rows, at, into=rows, **more)
                if len(here):
                    self._born(call, here, before)
            state.clean.clear()
            self.busy = False

        return hook

    def gone(self, i: int) -> torch.Tensor | None:
        """The expert that each row loses again in decoder layer i, `"rows 1"`; None where none does."""
        if all(moe.index != i for moe in self.followed) or not self.births:
            return None
        gone = self.place.new_full((self.born, 1), -1)
        for where, lost in zip(self.later, leaving(self.births, i, self.plan)):
            gone[where, 0] = lost.flatten()
        return gone

    def _drawn(self, i: int) -> torch.Tensor:
        """Places, among the positions, that are drawn in decoder layer i."""
        sample = self.plan.sample
        if i not in self.selected or sample is None:
            return self.positions[:0]
        return drawn(sample, self.seen[i], i, self.document, self.positions)

    def _join(self, here: torch.Tensor, clean: torch.Tensor) -> None:
        """Pass-through rows set out where positions are drawn for the first time; `clean` is `"tokens ..."`."""
        new = here[self.alone[here] < 0]
        if len(new) == 0:
            return
        first = clean[self.at[new]]  # (new, steps, ...)
        if self.held is None:
            self.held = first.new_empty(self.room, *first.shape[1:])
        self.alone[new] = self._append(first, new)

    def _append(self, rows: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        """Put rows `"rows steps ..."` behind the others; where they stand then."""
        assert self.held is not None
        new = slice(self.born, self.born + len(rows))
        self.held[new], self.place[new] = rows, place
        self.row_places += self.positions[place].tolist()
        self.born = new.stop
        return torch.arange(new.start, new.stop, device=place.device)

    def _born(
        self, call: tuple[int, RowState, Any, tuple, dict], here: torch.Tensor, before: torch.Tensor
    ) -> None:
        """The drawn rows part from their pass-through rows, so that they share their rounding so far."""
        assert self.held is not None
        i, after = call[0], self.held[self.alone[here]]  # (drawn, steps, ...)
        scale, at = self.plan.residual_scale[i], self.positions[here]
        routing = routing_at(self.selected[i], self.seen[i], at, self.document)
        edits = self.plan.operator.edits(routing)
        if scale is not None:
            hidden = births_by_delta(self.plan, routing, edits, after[:, 0], scale)
        else:

            def run_layer(rows: torch.Tensor) -> torch.Tensor:
                one, places = rows[:, :, None], at.tolist()
                return self._through(*call, one, at[:, None], places=places)[:, :, 0]

            hidden = births_by_rerun(routing, edits, before, run_layer)
        count = hidden.shape[1]
        rows = after.repeat_interleave(count, 0)  # the tokens after the edit are still clean here
        rows[:, 0] = hidden.flatten(0, 1)
        self.later.append(self._append(rows, here.repeat_interleave(count)))
        self.births.append(Birth(routing, edits))

    def outcomes(self, clean: torch.Tensor) -> Outcomes | None:  # pyright: ignore
        """Effects of each row against the pass-through row of its position, `"rows 1"`, as they were born.

        Positions with as many rows as each other are measured together.
        """
        if self.held is None:
            return None
        later = torch.cat(self.later)
        empty = torch.cat([birth.edits.empty.flatten() for birth in self.births])
        place = self.place[later].cpu().numpy()
        order, count = np.argsort(place, kind="stable"), np.bincount(place)
        start = np.cumsum(count) - count
        parts, whose = [], []
        for many in np.unique(count[count > 0]):
            which = np.flatnonzero(count == many)
            mine = torch.from_numpy(order[start[which][:, None] + np.arange(many)]).to(later.device)
            which = torch.from_numpy(which).to(later.device)
            rows = self.held[torch.cat([self.alone[which, None], later[mine]], 1)]
            found, moved = row_outcomes(
                self.plan,
                clean,
                rows,
                empty[mine],
                self.ids,
                self.positions[which],
                self.tuple_tail,
            )
            self.drift[which.cpu()] = moved.float().cpu()
            parts.append(found.reshaped(mine.numel(), 1))
            whose.append(mine.flatten())
        return Outcomes.joined(parts, 0).taken(torch.cat(whose).argsort())

    def finished(self, outcomes: Outcomes | None) -> Walked:  # pyright: ignore
        """What the walk brings back."""
        answers = [(birth.routing, birth.edits) for birth in self.births]
        return flat_walked(self.plan, answers, outcomes, drifts=(self.positions, self.drift))
