"""The coordinate check: do activations and their updates keep their size as a, N and d change?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from moeaudit.errors import InputError
from moeaudit.frames import Frame
from moeaudit.frames.shown import paragraph, table
from moeaudit.stats.clustered import over_seeds

from ..recipes.whole import Recipe
from ..training.data import Mixture
from ..training.model import quiet
from ..training.steps import Steps
from ..training.text import texts_of

WHERE = ("routed", "block", "logits")


@dataclass(frozen=True)
class Coordinates:
    """`table`: arm, x (what was varied), seed, step, where, activation (RMS), update (RMS of the change since step 0).

    `slopes`: where, what (activation or update, after the last step), slope of log2 RMS on log2 x with 95 % limits
    over seeds. About 0 is what the parameterisation promises; 1 is a doubling with each doubling.
    """

    table: Frame = field(repr=False)
    slopes: Frame
    steps: int

    def __repr__(self) -> str:
        said = ", ".join(
            f"{row.what} of {row.where} {row.slope:+.2f} [{row.slope_low:+.2f}, {row.slope_high:+.2f}]"
            for row in self.slopes.itertuples()
        )
        return f"Coordinate check after {self.steps} steps, slope of log RMS on log x: {said}."

    def _repr_html_(self) -> str:
        return paragraph(repr(self)) + table(self.slopes)


def coordinate_check(
    recipes: Mapping[float | int, Recipe],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 10,
    told: Callable[[str], None] | None = None,
) -> Coordinates:
    """Train each recipe for a few steps and follow the sizes of activations on one fixed batch.

    Args:
        recipes: by the number that is varied (the active experts, the experts, the width), at least two of them.
        seeds: at least one; an interval needs two.
        steps: optimiser steps at the recipe's own rates, without warm-up.
        told: called with a line before each training.

    Raises:
        InputError: fewer than two values, values that are not above 0, no step.
    """
    if len(recipes) < 2 or min(recipes) <= 0 or steps < 1 or not seeds:
        raise InputError(
            f"A coordinate check over {sorted(recipes)} with {steps} steps and seeds {list(seeds)}: at least two "
            "values above 0, one step and one seed were expected, or no slope can be drawn."
        )
    quiet()
    rows: list[dict[str, Any]] = []
    for x, recipe in recipes.items():
        for seed in seeds:
            if told is not None:
                told(f"{recipe.name}: x = {x:g}, seed {seed}")
            rows += [
                {"arm": recipe.name, "x": x, "seed": seed} | row
                for row in _followed(
                    recipe.changed(
                        seed=seed, warmup=0, decay=0.0, steps=max(steps, recipe.train.steps)
                    ),
                    steps,
                )
            ]
    frame = pd.DataFrame(rows)
    return Coordinates(frame, _slopes(frame), steps)


def _followed(recipe: Recipe, steps: int) -> list[dict[str, Any]]:
    recipe = recipe.changed(steps=max(steps, recipe.train.steps))
    texts = texts_of(recipe.text)
    mixture = Mixture(texts.train, recipe.train.seed)
    training = Steps(recipe, texts.vocabulary)
    ids = training.batch(mixture)[0].ids[:4]
    first: dict[str, torch.Tensor] = {}
    rows = []
    for step in range(steps + 1):
        if step:
            training.advance(mixture)
        for where, value in _activations(training, ids).items():
            start = first.setdefault(where, value)
            update = None if step == 0 else _rms(value - start)
            rows.append({"step": step, "where": where, "activation": _rms(value), "update": update})
    return rows


@torch.no_grad()
def _activations(training: Steps, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Outputs of the last layer's experts and block, and the logits, on a fixed batch."""
    kept: dict[str, torch.Tensor] = {}

    def keep(where: str) -> Callable[..., None]:
        def hook(module: Any, args: tuple, output: Any) -> None:  # noqa: ARG001
            out = output[0] if isinstance(output, tuple) else output
            kept[where] = out.float().clone()

        return hook

    block = training.model.model.layers[-1].mlp
    handles = [block.register_forward_hook(keep("block"))]
    handles.append(block.experts.register_forward_hook(keep("routed")))
    # A step in flight reads its own batch through the routers; this pass is none of it.
    training.routing.batch = None
    try:
        logits = training.model(input_ids=ids, use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
    return {"routed": kept["routed"], "block": kept["block"], "logits": logits.float()}


def _rms(x: torch.Tensor) -> float:
    return float(x.double().square().mean().sqrt())


def _slopes(frame: Frame) -> Frame:
    last = frame[frame["step"] == frame["step"].max()]
    rows = []
    for (where, seed), part in last.groupby(["where", "seed"], sort=False):
        x = np.log2(part["x"].to_numpy(float))
        for what in ("activation", "update"):
            y = np.log2(part[what].to_numpy(float))
            slope = float(np.polyfit(x, y, 1)[0])
            rows.append({"where": where, "what": what, "seed": seed, "slope": slope})
    return over_seeds(pd.DataFrame(rows), ["where", "what"], ["slope"])
