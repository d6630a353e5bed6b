"""`moeaudit screen MODEL`: first-order estimates of every removal, and how far to trust them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..asked import Seed, Text
from ..options import (
    Device,
    DeviceMap,
    Dtype,
    Experts,
    MaxMemory,
    ModelName,
    Offload,
    at_least,
    load_model,
    parse_layers,
    placement,
    readable,
    writable,
)
from ..terminal.document import Json, document
from ..terminal.examples import examples


@examples(
    "moeaudit screen tiny-olmoe",
    "moeaudit screen tiny-olmoe --layers 0,3-5 --exact 600 --out estimates.parquet",
    "moeaudit screen tiny-olmoe --json > screen.json",
)
def screen(
    model: ModelName,
    text: Text = None,
    out: Annotated[
        Path | None, typer.Option(help="Write all estimates to this Parquet file.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="Decoder layers, such as 0,3-5.  [default: all MoE layers]")
    ] = None,
    documents: Annotated[int, typer.Option(help="Documents to screen.")] = 48,
    tokens: Annotated[
        int, typer.Option(help="Tokens read of each document, from its beginning; 0 for all.")
    ] = 128,
    exact: Annotated[int, typer.Option(help="Random tokens whose removals are also exact.")] = 300,
    seed: Seed = 0,
    device: Device = None,
    dtype: Dtype = None,
    experts: Experts = None,
    device_map: DeviceMap = None,
    max_memory: MaxMemory = None,
    offload: Offload = "auto",
    json: Json = False,
) -> None:
    """Estimate every single-token removal of MODEL from one backward pass a document, and measure
    the estimate's agreement with exact removals on a random sample."""
    from moeaudit.causal import screen as estimate
    from moeaudit.store.files import write_table
    from moeaudit.text.choice import check_amount, gather

    from ..terminal.console import console, say
    from ..terminal.progress import ConsoleProgress

    readable(text, "--text")
    writable(out, "--out", folder=False)
    check_amount(documents, tokens)
    at_least(exact, 1, "--exact", ": the estimate is judged by exact removals")
    chosen = parse_layers(layers)
    with ConsoleProgress(console(stderr=True)) as progress:
        progress.stage("loading", 1, "model")
        loaded = load_model(
            model, device, dtype, experts, **placement(device_map, max_memory, offload)
        )
        progress.advance(1)
        found = gather(
            loaded,
            text,
            documents=documents,
            tokens=tokens,
            max_length=loaded.max_length,
            seed=seed,
        )
        born = sum(layer.top_k for layer in loaded.anatomy.select(chosen))
        rows = born * sum(len(chunk.ids) - 1 for chunk in found.effect.chunks)
        progress.stage("screen", rows, "estimates")

        def more(amount: int) -> None:
            progress.advance(amount)
            if progress.done == rows:
                progress.stage("exact removals", 1, "sample")

        result = estimate(
            loaded, found.effect, layers=chosen, exact=exact, seed=seed, progress=more
        )
        progress.advance(1)
    if out is not None:
        write_table(out, result.table)
    if json:
        document(
            "screen",
            model=result.model,
            method=result.method,
            level=result.level,
            estimates=len(result.table),
            agreement=result.agreement.astype({"layer": str}),
            notes=result.notes,
            out=out,
        )
        return
    shown = console()
    say(shown, f"{result!r}")
    agreement: Any = result.agreement
    for name in [each for each in agreement["layer"].unique() if each != "all"]:
        mine = agreement[agreement["layer"] == name].itertuples()
        values = ", ".join(f"{r.measure} {r.value:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in mine)
        say(shown, f"layer {name}: {values}")
    if out is not None:
        say(shown, f"Estimates: {out}")
