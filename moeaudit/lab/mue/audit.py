"""What Complete-muE computes for a model, beside what its checkpoint has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from moeaudit.frames import Frame
from moeaudit.frames.shown import bullets, paragraph, table
from moeaudit.models import Model, MoELayer
from moeaudit.models.accounting import Account, accounting
from moeaudit.models.forward import evaluating, listening
from moeaudit.models.placement import input_device
from moeaudit.text.for_model import tokens_for

from .multipliers import multipliers

COLUMNS = (
    *("layer", "hidden", "active", "width", "shared", "A", "R", "AR", "sigma", "gates"),
    *("down_over_up", "rms_routed", "rms_shared", "rms_residual", "routed_over_shared"),
    "routed_over_residual",
)


@dataclass(frozen=True)
class Parameterisation:
    """One row a MoE layer in `table`.

    What the rules compute: hidden (d), active (a), width (h), shared (s), A = d / (a h + s), R = a, their product,
    and sigma = sqrt((a h + s) / d). What the checkpoint has, null where only a configuration was given: `gates`,
    the mean sum of a token's routing weights, scaling included: the multiplier that a sum by gates of one really
    gets, to hold against AR; `down_over_up`, the standard deviation of
    the down projections over that of the gate and up projections, to hold against sigma at the start of training;
    RMS over tokens of what routed experts add, of what shared experts add and of the residual stream with both
    in it, and their ratios.
    """

    name: str
    table: Frame = field(repr=False)
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        t = self.table
        said = (
            f"{self.name}: {len(t)} MoE layers of width {int(t['hidden'].iloc[0]):,}; Complete-muE would multiply the "
            f"routed sum by A R = {t['AR'].iloc[0]:.3g} (A = {t['A'].iloc[0]:.3g}, R = {t['R'].iloc[0]:.3g}) and start "
            f"down projections at {t['sigma'].iloc[0]:.3g} of the other matrices"
        )
        if t["gates"].notna().any():
            said += (
                f". The model's gates amount to {t['gates'].min():.3g} to {t['gates'].max():.3g}, its down projections "
                f"stand at {t['down_over_up'].min():.3g} to {t['down_over_up'].max():.3g}; what routed experts add is "
                f"{t['routed_over_residual'].min():.2g} to {t['routed_over_residual'].max():.2g} of the residual"
            )
            if t["routed_over_shared"].notna().any():
                low, high = t["routed_over_shared"].min(), t["routed_over_shared"].max()
                said += f" and {low:.2g} to {high:.2g} of what shared experts add"
        return f"{said}."

    def _repr_html_(self) -> str:
        return paragraph(repr(self)) + table(self.table, COLUMNS, most=64) + bullets(self.notes)


def parameterisation(
    model: Any, docs: Any = None, *, max_length: int | None = None
) -> Parameterisation:
    """Hold a model's multipliers against those of Complete-muE.

    Args:
        model: whatever `moeaudit.accounting` takes: a name, a folder, a configuration, or a loaded model, of which the
            checkpoint's own figures are measured as well.
        docs: what a loaded model reads for them; 256 random tokens in rows of 32 if None.
        max_length: of its pieces.

    Raises:
        ModelError, InputError: as `moeaudit.accounting` and `moeaudit.capture`.
    """
    account = accounting(model)
    rows = [_computed(account, layer) for layer in account.shapes.moe]
    notes: tuple[str, ...] = account.notes
    if isinstance(model, Model):
        seen = _measured(model, docs, max_length)
        rows = [row | seen[row["layer"]] for row in rows]
    else:
        notes += ("what the checkpoint has was not measured: only a configuration was given",)
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame[list(COLUMNS[5:])] = frame[list(COLUMNS[5:])].astype("Float64")
    return Parameterisation(account.name, frame, notes)


def _computed(account: Account, layer: MoELayer) -> dict[str, Any]:
    hidden = account.shapes.hidden
    stacked = [p.shape for p in layer.experts.parameters() if p.ndim == 3]
    # Gate, up and down of one expert are 3 d h weights, whichever way they are stacked.
    width = round(sum(one * two for _, one, two in stacked) / (3 * hidden))
    shared = sum(
        p.numel()
        for name, p in _inside(layer)
        if "shared" in name and p.ndim == 2 and min(p.shape) > 1
    )
    of = multipliers(hidden, layer.top_k, max(1, width), round(shared / (3 * hidden)))
    return {
        "layer": layer.index,
        "hidden": hidden,
        "active": layer.top_k,
        "width": of.width,
        "shared": of.shared,
        "A": of.A,
        "R": of.R,
        "AR": of.A * of.R,
        "sigma": of.sigma,
    }


def _inside(layer: MoELayer) -> list[tuple[str, nn.Parameter]]:
    return [] if layer.block is None else list(layer.block.named_parameters())


@torch.no_grad()
def _measured(model: Model, docs: Any, max_length: int | None) -> dict[int, dict[str, float]]:
    """The checkpoint's own figures by layer, sums in float64 over all tokens."""
    if docs is None:
        drawn = np.random.default_rng(0).integers(
            0, model.vocab_size, (8, min(32, model.max_length))
        )
        docs = list(drawn.astype(np.int64))
    sums: dict[int, dict[str, list[float]]] = {}

    def on_experts(layer: MoELayer) -> Any:
        def hook(module: nn.Module, args: tuple, output: torch.Tensor) -> None:  # noqa: ARG001
            _add(sums, layer.index, "routed", output)

        return hook

    def on_layer(layer: MoELayer) -> Any:
        def hook(module: nn.Module, args: tuple, output: Any) -> None:  # noqa: ARG001
            out = output[0] if isinstance(output, tuple) else output
            _add(sums, layer.index, "residual", out)

        return hook

    shared: dict[int, nn.Module] = {}
    for layer in model.anatomy.layers:
        children = dict(layer.block.named_children()) if layer.block is not None else {}
        named = [m for n, m in children.items() if "shared" in n and "gate" not in n]
        if len(named) == 1:
            shared[layer.index] = named[0]

    gates: dict[int, list[float]] = {layer.index: [] for layer in model.anatomy.layers}

    def heard(layer: MoELayer, seen: Any) -> None:
        gates[layer.index].extend(seen.weight.double().sum(-1).tolist())

    handles = []
    routed: dict[int, torch.Tensor] = {}
    with evaluating(model.hf), listening(model.anatomy.layers, heard):
        try:
            for layer in model.anatomy.layers:
                handles.append(layer.experts.register_forward_hook(on_experts(layer)))
                handles.append(layer.experts.register_forward_hook(_keep(routed, layer.index)))
                if layer.index in shared and layer.block is not None:
                    handles.append(
                        layer.block.register_forward_hook(_rest(sums, routed, layer.index))
                    )
                whole = model.anatomy.decoder_layers[layer.index]
                handles.append(whole.register_forward_hook(on_layer(layer)))
            for chunk in tokens_for(model, docs, max_length).chunks:
                ids = torch.from_numpy(chunk.ids)[None].to(input_device(model.hf))
                model.hf(input_ids=ids, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
    return {
        layer.index: _figures(layer, sums[layer.index], gates[layer.index])
        for layer in model.anatomy.layers
    }


def _keep(routed: dict[int, torch.Tensor], index: int) -> Any:
    def hook(module: nn.Module, args: tuple, output: torch.Tensor) -> None:  # noqa: ARG001
        routed[index] = output

    return hook


def _rest(sums: dict, routed: dict[int, torch.Tensor], index: int) -> Any:
    """What the block adds besides its routed experts: the shared ones, gated as they are."""

    def hook(module: nn.Module, args: tuple, output: Any) -> None:  # noqa: ARG001
        out = output[0] if isinstance(output, tuple) else output
        _add(sums, index, "shared", out - routed[index].reshape(out.shape))

    return hook


def _add(
    sums: dict[int, dict[str, list[float]]], layer: int, what: str, value: torch.Tensor
) -> None:
    held = sums.setdefault(layer, {}).setdefault(what, [0.0, 0.0])
    held[0] += float(value.double().square().sum())
    held[1] += value.numel()


def _figures(layer: MoELayer, sums: dict[str, list[float]], gates: list[float]) -> dict[str, float]:
    rms = {what: (total / count) ** 0.5 for what, (total, count) in sums.items()}
    named = {n: p for n, p in layer.experts.named_parameters() if p.ndim == 3}
    down = [p for n, p in named.items() if "down" in n]
    up = [p for n, p in named.items() if "down" not in n]
    ratio = float("nan")
    if down and up and not any(p.is_meta for p in (*down, *up)):
        stds = [float(torch.cat([p.double().flatten() for p in each]).std()) for each in (down, up)]
        ratio = stds[0] / stds[1]
    shared = rms.get("shared", float("nan"))
    return {
        "gates": float(np.mean(gates)),
        "down_over_up": ratio,
        "rms_routed": rms["routed"],
        "rms_shared": shared,
        "rms_residual": rms["residual"],
        "routed_over_shared": rms["routed"] / shared,
        "routed_over_residual": rms["routed"] / rms["residual"],
    }
