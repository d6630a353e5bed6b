"""Interventions handed over: the same edit as hooks for TransformerLens, or inside an nnsight trace.

`Handover` is the base of every operator, so that none of them knows either library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Handover:
    """What every operator can do besides saying how the router's answer changes.

    Both methods make one row of the operator's table: `layer` is the decoder layer's index,
    `position` the token's place in the one prompt that is read, `rank` the active expert the row is
    about (0 = largest weight; -1 for rows about no active expert). Where a rank has several rows,
    `about` tells them apart by the table's further columns: `Swap("all")` takes `entered=5`,
    `Coalitions()` takes `members=0b101`.
    """

    def as_transformer_lens_hooks(
        self, model: Any, *, layer: int, position: int, rank: int = 0, **about: Any
    ) -> list[tuple[str, Callable[..., Any]]]:
        """Hooks for `bridge.run_with_hooks(tokens, fwd_hooks=...)`.

        `model` is a `TransformerBridge`, or what `moeaudit.load` made of it. Weights are edited at
        `blocks.L.mlp.hook_expert_weights`; what an operator adds besides, at `mlp.hook_out`.

        Raises InputError for a layer, position or row that does not exist and ModelError for a
        bridge whose routers have no hook on expert weights, or (when the hook runs) for an answer
        that a bridge cannot hold: a negative weight, or more experts than the model activates.
        """
        from .engines.transformer_lens import handed_over

        return handed_over(self, model, layer, position, rank, about)

    def apply_in_trace(
        self, model: Any, *, layer: int, position: int, rank: int = 0, **about: Any
    ) -> None:
        """Make the edit inside `with nn.trace(prompt):`, where `nn` is an nnsight model.

        Give `moeaudit.load(nn)` a chance to look at the model before the trace: no second forward
        can run inside one. A trace holds exactly one prompt, since MoE blocks flatten the batch.

        Raises InputError for a model that was not loaded before, or a row that does not exist.
        """
        from .engines.nnsight import apply_in_trace

        apply_in_trace(self, model, layer, position, rank, about)
