"""An operator that the user writes: a function from the router's answer to another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch

from moeaudit.errors import InputError
from moeaudit.models import MoELayer

from .base import BaseOperator
from .difference import edits_by_difference
from .routing import Edits, Routing

Answer = tuple[torch.Tensor, torch.Tensor]


class Custom(BaseOperator):
    r"""Your own operator: `fn(routing)` returns the router's answer that is to stand instead.

    $y' = \sum_s w'_s E_{i'_s}(x)$ with $(i', w') = \mathrm{fn}(i, w, x)$. `routing` holds `index` and `weight`
    ("positions top_k", ranks in order), `hidden` ("positions d_model", what the experts were given),
    `positions` (places in the document) and `layer`, which is the layer itself and no number: it has `index`
    (its number), `num_experts` and `top_k`. `fn` returns `(index, weight)`, both
    "positions rows slots", or "positions slots" for one row; any number of slots will do, and weight
    0 leaves a slot empty. It is called with some positions of a document at a time and must answer
    for each by itself.

    `rows` counterfactuals are made at each position. With `rows="active"` there is one for each active
    expert, in rank order, and the table names that expert; with a number, rank and expert are -1
    and the weight is the sum of the weights before; where there are several the column `row` counts
    them.

        def halve_the_largest(routing):
            weight = routing.weight.clone()
            weight[:, 0] /= 2
            return routing.index, weight

        ma.ablate(model, docs, ma.Custom(halve_the_largest, name="half"))

    Raises InputError for an answer of another shape, experts that the layer does not have, or
    weights that are not finite, naming what was returned.
    """

    of_one_expert = False

    def __init__(
        self,
        fn: Callable[[Routing], Answer],
        *,
        name: str = "custom",
        rows: int | Literal["active"] = 1,
    ) -> None:
        if not callable(fn):
            raise InputError(
                f"Custom() was given a {type(fn).__name__}; a function from the routing to (index, weight) "
                "was expected."
            )
        counted = isinstance(rows, int) and not isinstance(rows, bool) and rows >= 1
        if not (counted or rows == "active"):
            raise InputError(f"Custom(rows={rows!r}): a number from 1 up or 'active' was expected.")
        self.fn, self.name, self._rows = fn, name, rows

    def to_dict(self) -> dict[str, Any]:
        """Its name and rows. The function is not written down, so `from_dict` refuses it."""
        return {"operator": "Custom", "name": self.name, "rows": self._rows}

    @classmethod
    def restored(cls, arguments: Mapping[str, Any], held_out: Any) -> BaseOperator:  # noqa: ARG003
        raise InputError(
            f"The operator {arguments['name']!r} was a function of the user's own (Custom), which no table holds "
            "and which cannot be restored. Pass the operator itself: Custom(function, name=...)."
        )

    def __repr__(self) -> str:
        return f"Custom({self.name!r}, rows={self._rows!r})"

    def rows(self, layer: MoELayer) -> int:
        return layer.top_k if self._rows == "active" else int(self._rows)

    def edits(self, routing: Routing) -> Edits:
        index, weight = self._checked(routing, self.fn(routing))
        expert, change = edits_by_difference(routing, index, weight)
        p, rows = index.shape[:2]
        row = torch.arange(rows, device=index.device).expand(p, rows)
        if self._rows == "active":
            return Edits(row, expert, change)
        none, total = torch.full_like(row, -1), routing.weight.sum(-1, keepdim=True)
        about = {"row": row.to(torch.int32)} if rows > 1 else {}
        return Edits(none, expert, change, about=about, subject=(none, total.expand(p, rows)))

    def _checked(self, routing: Routing, answer: object) -> Answer:
        layer, p = routing.layer, len(routing.index)
        rows = self.rows(layer)
        where = f"{self.name}, layer {layer.index} of {layer.architecture}"
        if not (
            isinstance(answer, tuple)
            and len(answer) == 2
            and all(isinstance(part, torch.Tensor) for part in answer)
        ):
            raise InputError(
                f"{where}: the function returned a {type(answer).__name__}; a pair of tensors (index, weight) "
                "was expected."
            )
        index, weight = answer
        if rows == 1 and index.dim() == weight.dim() == 2:
            index, weight = index[:, None], weight[:, None]
        if index.shape != weight.shape or index.shape[:2] != (p, rows) or index.dim() != 3:
            raise InputError(
                f"{where}: the function returned an index of shape {tuple(answer[0].shape)} and a weight of "
                f"shape {tuple(answer[1].shape)}; ({p}, {rows}, slots) was expected of both, for {p} positions "
                f"and {rows} rows each."
            )
        if index.is_floating_point() or index.dtype == torch.bool or not weight.is_floating_point():
            raise InputError(
                f"{where}: the function returned an index of {index.dtype} and a weight of {weight.dtype}; whole "
                "numbers and floating point were expected."
            )
        wrong = (index < 0) | (index >= layer.num_experts)
        if bool(wrong.any()):
            raise InputError(
                f"{where}: the function chose expert {int(index[wrong][0])}, and the layer has experts 0 to "
                f"{layer.num_experts - 1}. To leave a slot empty give it any expert and weight 0."
            )
        if not bool(torch.isfinite(weight).all()):
            raise InputError(f"{where}: the function returned weights that are NaN or infinite.")
        return index.long(), weight.to(routing.weight.dtype)
