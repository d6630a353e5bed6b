"""What is asked of an audit, as options that `audit` and `plan` share, and their reading."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moeaudit.errors import InputError
from moeaudit.runs.operators import WORDS

from .options import (
    Device,
    DeviceMap,
    Dtype,
    Experts,
    MaxMemory,
    Offload,
    parse_layers,
    placement,
    readable,
)

if TYPE_CHECKING:
    from typer import Context
else:  # what typer hands over is click's own class, above its own
    Context = typer.Context.__mro__[1]

Operator = Annotated[
    str,
    typer.Option(
        metavar="NAME[:ARGUMENT]",
        help="What is done to the router's answer: "
        + ", ".join(word.usage for word in WORDS.values())
        + ".",
    ),
]
Outcome = Annotated[
    str,
    typer.Option(
        help="Outcomes that are tested, separated by commas: delta_nll, abs_delta_nll, kl, flip, "
        "delta_entropy, delta_confidence, delta_brier."
    ),
]
Frozen = Annotated[
    bool, typer.Option("--frozen-routing", help="Later layers keep the intact model's routing.")
]
Text = Annotated[
    Path | None,
    typer.Option(help="A folder of text files (sub-folder = domain) or a .jsonl file."),
]
Layers = Annotated[
    str | None, typer.Option(help="Decoder layers, such as 0,3-5.  [default: all MoE layers]")
]
Documents = Annotated[
    int | None, typer.Option(help="Documents to measure effects on.  [default: 160]")
]
Tokens = Annotated[
    int, typer.Option(help="Tokens read of each document, from its beginning; 0 for all.")
]
MaxLength = Annotated[
    int | None, typer.Option(help="Tokens the model reads at once; longer documents are cut.")
]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.", min=0)]
Sesoi = Annotated[
    str | None,
    typer.Option(
        help="Smallest effect of interest within a token: 0.1 (in d_z), 0.01nats, or 50%harm (a share of "
        "the layer's mean).  [default: 0.01nats; 0.1 for outcomes not in nats]"
    ),
]
Alpha = Annotated[float, typer.Option(help="Error rate of a family of tests.")]
Metrics = Annotated[
    str | None,
    typer.Option(help="Routing metrics to test, separated by commas.  [default: all]"),
]
Shift = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Text of other domains to audit beside: a folder, a .jsonl file, or bundled.  "
        "[default: the bundled shift split, unless --text is given]",
    ),
]
NoShift = Annotated[bool, typer.Option("--no-shift", help="Audit no text of other domains.")]
Share = Annotated[
    float,
    typer.Option(
        help="The part of all removals that is made, a stratified sample by --seed: above 0 and up to 1."
    ),
]
VerifyRows = Annotated[int, typer.Option(help="Rows that each independent engine recomputes.")]

# The options that settle a question, with their defaults; those after them say where a model runs.
QUESTION: dict[str, tuple[Any, Any]] = {
    "operator": (Operator, "zero"),
    "outcome": (Outcome, "delta_nll,kl"),
    "frozen_routing": (Frozen, False),
    "text": (Text, None),
    "layers": (Layers, None),
    "documents": (Documents, None),
    "tokens": (Tokens, 128),
    "max_length": (MaxLength, None),
    "seed": (Seed, 0),
    "sesoi": (Sesoi, None),
    "alpha": (Alpha, 0.05),
    "metrics": (Metrics, None),
    "shift": (Shift, None),
    "no_shift": (NoShift, False),
    "share": (Share, 1.0),
    "verify_rows": (VerifyRows, 8),
    "dtype": (Dtype, None),
}
LOADING: dict[str, tuple[Any, Any]] = {
    "device": (Device, None),
    "experts": (Experts, None),
    "device_map": (DeviceMap, None),
    "max_memory": (MaxMemory, None),
    "offload": (Offload, "auto"),
}
NAMES = tuple(QUESTION)


def asking(command: Callable[..., None]) -> Callable[..., None]:
    """The command with all these options after its own; it reads them from its context."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in (QUESTION | LOADING).items()
    ]

    def call(**given: Any) -> None:
        command(**{each.name: given[each.name] for each in own})

    call.__name__, call.__doc__ = command.__name__, command.__doc__
    call.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in (*own, *shared)}
    return call


def loading_of(context: Context, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Where the model runs and as what, as `moeaudit.load` takes it."""
    given = context.params
    placed = placement(given["device_map"], given["max_memory"], given["offload"])
    return {
        "device": given["device"],
        "dtype": asked["dtype"],
        "experts_implementation": given["experts"],
        **placed,
    }


def asked_of(context: Context, before: Mapping[str, Any]) -> dict[str, Any]:
    """The options by name, as they were typed; those not given are taken from `before`, if there."""
    out: dict[str, Any] = {}
    for name in NAMES:
        value = context.params[name]
        source = context.get_parameter_source(name)
        given = source is not None and source.name != "DEFAULT"
        if not given and name in before:
            value = before[name]
        out[name] = str(value) if isinstance(value, Path) else value
    if context.params["no_shift"] and context.params["shift"] is not None:
        raise InputError(
            "--shift names text of other domains and --no-shift leaves it out. Give one."
        )
    readable(context.params["text"], "--text")
    if context.params["shift"] not in (None, "bundled"):
        readable(context.params["shift"], "--shift")
    if context.params["no_shift"]:
        out["shift"] = None
    elif context.params["shift"] is not None:
        out["no_shift"] = False
    return out


def options_of(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The options as `moeaudit.audit` takes them. Raises InputError for layers that cannot be read."""
    out = {name: asked[name] for name in NAMES if name not in ("text", "dtype", "no_shift")}
    if asked["no_shift"]:
        out["shift"] = False
    out["layers"] = parse_layers(asked["layers"])
    out["outcome"] = _listed(asked["outcome"])
    out["metrics"] = None if asked["metrics"] is None else _listed(asked["metrics"])
    return out


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]
