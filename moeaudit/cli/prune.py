"""`moeaudit prune MODEL`: what pruning by each criterion costs; optionally the pruned checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moeaudit.errors import InputError

from .asked import Seed
from .options import (
    Device,
    DeviceMap,
    Dtype,
    Experts,
    MaxMemory,
    Offload,
    at_least,
    load_model,
    placement,
    readable,
    writable,
)

if TYPE_CHECKING:
    from moeaudit.pruning import PruneCurve


def prune(
    model: Annotated[
        str, typer.Argument(help="A bundled model, a folder in hub layout, or a hub id.")
    ],
    text: Annotated[
        Path | None,
        typer.Option(help="A folder of text files (sub-folder = domain) or a .jsonl file."),
    ] = None,
    criteria: Annotated[
        str | None, typer.Option(help="Criteria, separated by commas.  [default: all]")
    ] = None,
    keep: Annotated[str, typer.Option(help="Shares of the experts that stay.")] = "0.875,0.75,0.5",
    scope: Annotated[str, typer.Option(help="layer, global, or both: layer,global.")] = "layer",
    layers: Annotated[
        str, typer.Option(help="all, or thirds of the depth: early,middle,late.")
    ] = "all",
    documents: Annotated[int, typer.Option(help="Documents to evaluate.")] = 48,
    tokens: Annotated[
        int, typer.Option(help="Tokens read of each document, from its beginning; 0 for all.")
    ] = 128,
    draws: Annotated[int, typer.Option(help="Random models beside each criterion.")] = 20,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="Write the tables and the figure to this folder.")
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="Write the model pruned by the one criterion and share given here."),
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    experts: Experts = None,
    device_map: DeviceMap = None,
    max_memory: MaxMemory = None,
    offload: Offload = "auto",
) -> None:
    """Drop experts of MODEL by each criterion and at random, and measure loss and KL on documents
    that the criteria were not computed on."""
    from moeaudit.pruning import export_pruned, prune_curve
    from moeaudit.text.choice import check_amount, gather

    from .terminal.console import console, say

    names = None if criteria is None else _words(criteria)
    shares = [_share(word) for word in _words(keep)]
    if export is not None and (names is None or len(names) != 1 or len(shares) != 1):
        raise InputError(
            "--export writes one model, so it needs one criterion and one share: for example "
            "--criteria reap --keep 0.5 --export FOLDER."
        )
    readable(text, "--text")
    writable(out, "--out", folder=True)
    writable(export, "--export", folder=True)
    check_amount(documents, tokens)
    at_least(draws, 0, "--draws")
    loaded = load_model(model, device, dtype, experts, **placement(device_map, max_memory, offload))
    found = gather(
        loaded, text, documents=documents, tokens=tokens, max_length=loaded.max_length, seed=seed
    )
    # One criterion is still read beside random draws.
    wanted = names if names is None or "random" in names or draws == 0 else [*names, "random"]
    curve = prune_curve(
        loaded,
        found.effect,
        wanted,
        shares,
        calibration=found.metric,
        scope=_words(scope),
        layers=_words(layers),
        draws=draws,
        seed=seed,
    )
    screen = console()
    say(screen, f"{curve!r}")
    _show(screen, curve)
    for note in (*found.notes, *curve.notes):
        say(screen, f"- {note}")
    if out is not None:
        say(screen, f"Tables and figure: {_write(curve, out)}")
    if export is not None and names is not None:
        kept = curve.kept(names[0], shares[0], scope=_words(scope)[0], depth=_words(layers)[0])
        say(screen, f"Pruned model: {export_pruned(loaded, kept, export)}")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _share(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise InputError(
            f"--keep cannot be read at {word!r}. Give shares separated by commas, such as 0.75,0.5."
        ) from None


def _show(screen: Any, curve: PruneCurve) -> None:
    from rich import box
    from rich.table import Table

    plain = box.SIMPLE_HEAD if screen.encoding.lower().startswith("utf") else box.ASCII
    table = Table(box=plain, pad_edge=False)
    for name in ("criterion", "scope", "layers"):
        table.add_column(name)
    for name in ("keep", "perplexity", "loss added", "KL", "against random", "beats"):
        table.add_column(name, justify="right")
    table.add_column("cheaper than random?")
    frame: Any = curve.table
    for row in frame[frame["criterion"] != "random"].itertuples():
        against = row.vs_random == row.vs_random  # null without random draws
        table.add_row(
            row.criterion,
            row.scope,
            row.depth,
            f"{row.keep:g}",
            f"{row.ppl:.3f}",
            f"{row.d_nll:+.4f} [{row.low:+.4f}, {row.high:+.4f}]",
            f"{row.kl:.4f}",
            f"{row.vs_random:+.4f}" if against else "",
            f"{row.better_than_random:.0%}" if against else "",
            _said(row) if against else "",
        )
    screen.print(table)


def _said(row: Any) -> str:
    """The verdict against random draws and whom it speaks of."""
    return row.verdict if row.supports is None else f"{row.verdict} ({row.supports})"


def _write(curve: PruneCurve, out: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    curve.table.to_csv(out / "costs.csv", index=False)
    curve.pairs().to_csv(out / "pairs.csv", index=False)
    curve.interchangeability().to_csv(out / "interchangeability.csv", index=False)
    curve.scores.to_csv(out / "scores.csv", index=False)
    curve.figure().write_html(out / "curve.html", include_plotlyjs=True)
    return out
