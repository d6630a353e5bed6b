"""`moeaudit inspect MODEL`: is it a model that can be audited, and how?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from moeaudit.models import Model

from ..options import (
    Device,
    DeviceMap,
    Dtype,
    Experts,
    MaxMemory,
    ModelName,
    Offload,
    load_model,
    placement,
)
from ..terminal.document import Json, document
from ..terminal.examples import examples


@examples(
    "moeaudit inspect tiny-deepseek-v2",
    "moeaudit inspect ./my-checkpoint --device cuda --dtype bfloat16",
    "moeaudit inspect tiny-olmoe --json",
    "moeaudit inspect tiny-olmoe --batch-mates",
)
def inspect(
    model: ModelName,
    device: Device = None,
    dtype: Dtype = None,
    experts: Experts = None,
    device_map: DeviceMap = None,
    max_memory: MaxMemory = None,
    offload: Offload = "auto",
    batch_mates: Annotated[
        bool,
        typer.Option(
            "--batch-mates",
            help="Also test whether a text's routing or output changes with the texts beside it in a batch.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Show the MoE layers of MODEL, verify its router contract, and name the engine that will run."""
    loaded = load_model(model, device, dtype, experts, **placement(device_map, max_memory, offload))
    mates = _mates(loaded) if batch_mates else None
    if json:
        found = None if mates is None else {"says": repr(mates), "independent": mates.independent}
        document("inspect", **_told(loaded), batch_mates=found)
    else:
        _show(loaded)
        if mates is not None:
            from ..terminal.console import console, say

            say(console(), f"Batch mates: {mates!r}")


def _mates(loaded: Model) -> Any:
    from moeaudit.causal import batch_mates

    return batch_mates(loaded)


def _told(loaded: Model) -> dict[str, Any]:
    """What is shown, for programs; of an engine null where it can verify, else why it cannot."""
    from moeaudit.causal import replay_for
    from moeaudit.causal.check.engines import ENGINES
    from moeaudit.causal.walk.budget import least_bytes, most_bytes
    from moeaudit.models.placement.fits import free
    from moeaudit.models.placement.summary import held

    return {
        "model": loaded.name,
        "says": repr(loaded),
        "layers": [
            {
                "layer": layer.index,
                "experts": layer.num_experts,
                "top_k": layer.top_k,
                "router": layer.router_path,
                "experts_module": layer.experts_path,
                "class": type(layer.experts).__name__,
            }
            for layer in loaded.anatomy.layers
        ],
        "contract": "holds",
        "notes": loaded.anatomy.notes,
        "held": list(held(loaded)),
        "census": {
            "free_bytes": free(loaded.device),
            "most_bytes": most_bytes(loaded),
            "least_bytes": least_bytes(loaded),
        },
        "device": str(loaded.device),
        "dtype": loaded.provenance["dtype"],
        "experts_implementation": loaded.experts_implementation,
        "engine": str(replay_for(loaded)),
        "verification": {name: engine.supports(loaded) for name, engine in ENGINES.items()},
        "max_length": loaded.max_length,
        **{name: loaded.provenance.get(name) for name in ("source", "revision", "weights_sha256")},
    }


def _show(loaded: Model) -> None:
    from rich import box
    from rich.table import Table

    from moeaudit.causal import replay_for
    from moeaudit.causal.check.engines import ENGINES
    from moeaudit.models.placement.summary import held

    from ..terminal.console import console, say

    screen = console()
    say(screen, f"{loaded!r}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("layer", "experts", "top-k"):
        table.add_column(name, justify="right")
    for name in ("router", "experts module"):
        table.add_column(name, overflow="fold")
    for layer in loaded.anatomy.layers:
        table.add_row(
            str(layer.index),
            str(layer.num_experts),
            str(layer.top_k),
            layer.router_path or "not found; the experts' call is enough",
            f"{layer.experts_path} ({type(layer.experts).__name__})",
        )
    screen.print(table)
    say(screen, "Router contract: holds in every layer (checked on a forward pass).")
    for note in loaded.anatomy.notes:
        say(screen, f"Note: {note}")
    for line in held(loaded):
        say(screen, line)
    say(screen, _census(loaded))
    say(screen, f"Device, precision: {loaded.device}, {loaded.provenance['dtype']}")
    say(screen, f"Experts implementation: {loaded.experts_implementation}")
    say(screen, f"Engine of the census: {replay_for(loaded)}")
    for name, engine in ENGINES.items():
        reason = engine.supports(loaded)
        say(screen, f"Verification by {name}: {'available' if reason is None else reason}")
    say(screen, f"Reads up to {loaded.max_length:,} tokens at once.")
    for key in ("source", "revision", "weights_sha256"):
        say(screen, f"{key.replace('_', ' ')}: {loaded.provenance.get(key)}")


def _census(model: Model) -> str:
    """Whether a census fits, and what to do where it does not."""
    from moeaudit.causal.walk.budget import least_bytes, most_bytes
    from moeaudit.models.placement.fits import free, said

    there, most, least = free(model.device), most_bytes(model), least_bytes(model)
    takes = f"a walk takes up to {said(most)} besides the weights, of {said(there)} that are free"
    if most <= there:
        return f"Census: fits; {takes}"
    if least <= there:
        return f"Census: fits with memory='{said(there // 2).replace(' ', '')}' or less; in usual blocks {takes}"
    return (
        f"Census: does not fit; one row needs {said(least)} besides the weights, and {said(there)} are free. "
        "Free memory, or load the model streamed (--offload stream)"
    )
