"""The replay: one walk up the layers in which every counterfactual is one more row.

Removing an expert at token t in layer l changes nothing before t and nothing below l, so the
counterfactual is the residual of one token from layer l upward, attending to the clean keys and
values of earlier tokens and to its own. The model's own forward drives the walk: after each
decoder layer has seen the clean tokens, the rows born below go through the same layer, and new
rows are born there. Each layer's weights are visited once.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int

from moeaudit.models import Model, MoELayer

from .attention import RowsDoNotHold, RowState, row_attention
from .births import Birth, births_by_delta, births_by_rerun
from .clean import ExpertsSeen
from .interventions import Intervention
from .layout import Layout, hidden_path, map_tensors
from .outcomes import Measure, Outcomes, measure
from .tail import tail_logits

_ROW_BYTES = 1 << 29  # residuals of rows held at once
_LAYER_ROWS = 2048  # rows that go through a layer at once
_GATHER_BYTES = 1 << 28  # expert weights that batched_mm may copy at once
_LOGITS = 1 << 23  # logits of rows held at once


@dataclass
class WalkPlan:
    """What does not change between documents: where, what, and how rows are born and carried."""

    model: Model
    layers: list[MoELayer]
    intervention: Intervention
    layout: Layout
    # Per MoE layer: by how much the routed output enters the layer's output, or None where it
    # passes through more than an addition and the layer itself must be run again.
    residual_scale: dict[int, float | None]
    # Outcomes besides delta NLL, KL and flip, by column name.
    extra: dict[str, Measure] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Counterfactuals of one position, all layers together."""
        return sum(self.intervention.rows(layer) for layer in self.layers)

    def positions_at_once(self) -> int:
        """How many positions' rows fit in memory together."""
        width = int(self.model.hf.config.get_text_config().hidden_size)
        return max(1, _ROW_BYTES // (width * 4 * max(1, self.rows)))


@dataclass
class Walked:
    """Rows of one document, position-major; columns are counterfactuals in (layer, row) order."""

    positions: Int[torch.Tensor, " positions"]
    layer: Int[torch.Tensor, " rows"]
    rank: Int[torch.Tensor, "positions rows"]
    expert: Int[torch.Tensor, "positions rows"]
    weight: Float[torch.Tensor, "positions rows"]
    outcomes: Outcomes
    about: dict[str, torch.Tensor] = field(default_factory=dict)


def joined(parts: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Further columns of all layers side by side."""
    return {name: torch.cat([part[name] for part in parts], 1) for name in parts[0]}


class Wavefront:
    """One walk over one document for some of its positions."""

    def __init__(
        self,
        plan: WalkPlan,
        ids: torch.Tensor,
        positions: torch.Tensor,
        *,
        keep_births: bool = False,
    ) -> None:
        self.plan = plan
        self.keep_births = keep_births
        self.ids = ids  # (1, tokens)
        self.positions = positions  # (positions,)
        self.rows: torch.Tensor | None = None  # (positions, rows so far, ...)
        self.births: list[Birth] = []
        self.seen: dict[int, ExpertsSeen] = {}
        self.selected = {layer.index: layer for layer in plan.layers}
        self.tuple_tail: tuple[Any, ...] | None = None
        self.busy = False

    @torch.no_grad()
    def run(self) -> Walked:
        outcomes = self.run_clean(then=self._outcomes)
        return Walked(
            positions=self.positions,
            layer=torch.cat([torch.full((b.rank.shape[1],), b.layer) for b in self.births]),
            rank=torch.cat([b.rank for b in self.births], 1),
            expert=torch.cat([b.expert for b in self.births], 1),
            weight=torch.cat([b.weight for b in self.births], 1),
            outcomes=outcomes,
            about=joined([b.about for b in self.births]),
        )

    @torch.no_grad()
    def run_clean(self, then: Callable[[torch.Tensor], Any] | None = None) -> Any:
        """One forward of the clean tokens with the walk's hooks in place; `then` gets its logits."""
        model = self.plan.model
        with row_attention(model.hf, self.ids.shape[1]) as state, ExitStack() as stack:
            for i, layer in enumerate(model.anatomy.decoder_layers):
                hook = self._on_layer(i, state)
                stack.callback(layer.register_forward_hook(hook, with_kwargs=True).remove)
            for moe in self.plan.layers:
                hook = self._on_experts(moe)
                handle = moe.experts.register_forward_pre_hook(hook, with_kwargs=True)
                stack.callback(handle.remove)
            clean = model.hf(input_ids=self.ids, use_cache=False).logits[0]  # (tokens, vocab)
            self.busy = state.idle = True
            return then(clean) if then is not None else None

    def _on_experts(self, moe: MoELayer):
        def hook(module: Any, args: tuple, kwargs: dict) -> None:  # noqa: ARG001
            if not self.busy:
                given = [*args, *kwargs.values()]
                self.seen[moe.index] = ExpertsSeen(*given[:3])

        return hook

    def _on_layer(self, i: int, state: RowState):
        def hook(layer: Any, args: tuple, kwargs: dict, output: Any) -> None:
            if self.busy:
                return
            self.busy = True
            if isinstance(output, tuple):
                self.tuple_tail = output[1:]
            if self.rows is not None:
                self.rows = self._through(i, state, layer, args, kwargs, self.rows)
            if i in self.selected:
                self._give_birth(i, state, layer, args, kwargs, output)
            state.clean.clear()
            self.busy = False

        return hook

    def _give_birth(
        self, i: int, state: RowState, layer: Any, args: tuple, kwargs: dict, output: Any
    ) -> None:
        seen = self.seen.pop(i)
        hidden_out = output[0] if isinstance(output, tuple) else output
        scale = self.plan.residual_scale[i]
        moe, at = self.selected[i], self.positions
        if scale is not None:
            birth = births_by_delta(moe, self.plan.intervention, seen, at, hidden_out[0], scale)
        else:
            clean_in = self._hidden(args, kwargs)[0, at]  # (positions, ...)

            def run_layer(rows: torch.Tensor) -> torch.Tensor:
                return self._through(i, state, layer, args, kwargs, rows)

            birth = births_by_rerun(moe, self.plan.intervention, seen, at, clean_in, run_layer)
        grown = [birth.hidden] if self.rows is None else [self.rows, birth.hidden]
        self.rows = torch.cat(grown, 1)
        if not self.keep_births:
            birth.hidden = birth.hidden[:0]  # the rows hold it now
        self.births.append(birth)

    def _hidden(self, args: tuple, kwargs: dict) -> torch.Tensor:
        where, name = hidden_path(args, kwargs)
        return (args, kwargs)[where][name]

    def _through(
        self, i: int, state: RowState, layer: Any, args: tuple, kwargs: dict, rows: torch.Tensor
    ) -> torch.Tensor:
        """Carry rows, `(positions, n, ...)`, through decoder layer i, some positions at a time."""
        n = rows.shape[1]
        step = max(1, self._rows_at_once(i) // n)
        dims, at_hidden = self.plan.layout[i], hidden_path(args, kwargs)
        out = torch.empty_like(rows)
        for a in range(0, len(self.positions), step):
            positions = self.positions[a : a + step]
            repeated = positions.repeat_interleave(n)
            chunk = rows[a : a + step].flatten(0, 1)[None]  # (1, positions * n, ...)

            def place(path: Any, tensor: torch.Tensor) -> torch.Tensor:
                if path == at_hidden:
                    return chunk  # noqa: B023
                if path not in dims:
                    raise RowsDoNotHold(
                        f"decoder layer {i} got an argument {path[-1]!r} it did not get before"
                    )
                moving = dims[path]
                return tensor.index_select(moving[0], repeated) if len(moving) == 1 else tensor  # noqa: B023

            row_args, row_kwargs = map_tensors(place, (args, kwargs))
            state.positions, state.rows = positions, n
            try:
                result = layer(
                    *row_args, **row_kwargs
                )  # as called, so that other hooks see rows too
            finally:
                state.positions = None
            result = result[0] if isinstance(result, tuple) else result
            out[a : a + step] = result[0].reshape(len(positions), n, *rows.shape[2:])
        return out

    def _rows_at_once(self, i: int) -> int:
        moe = next((layer for layer in self.plan.model.anatomy.layers if layer.index == i), None)
        if moe is None or self.plan.model.experts_implementation != "batched_mm":
            return _LAYER_ROWS
        # batched_mm copies the weights of every (row, slot), so few rows go at once.
        size = (
            sum(p.numel() * p.element_size() for p in moe.experts.parameters()) // moe.num_experts
        )
        return max(8, min(_LAYER_ROWS, _GATHER_BYTES // max(1, size * moe.top_k)))

    def _outcomes(self, clean: torch.Tensor) -> Outcomes:
        assert self.rows is not None
        n, vocab = self.rows.shape[1], clean.shape[-1]
        step = max(1, _LOGITS // (vocab * n))
        parts = []
        for a in range(0, len(self.positions), step):
            positions = self.positions[a : a + step]
            block = self.rows[a : a + step].flatten(0, 1)  # (positions * n, ...)
            logits = tail_logits(self.plan.model, block, self.ids[0, 0], self.tuple_tail)
            edited = logits.view(len(positions), n, vocab)
            target = self.ids[0, positions + 1]
            parts.append(measure(clean[positions], edited, target, self.plan.extra))
        return Outcomes.joined(parts, 0)
