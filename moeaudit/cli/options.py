"""Options that several commands share, their parsing, and what of them is refused before a model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moeaudit.errors import InputError
from moeaudit.store.files import require_place

if TYPE_CHECKING:
    from moeaudit.models import Model

ModelName = Annotated[
    str, typer.Argument(help="A bundled model, a folder in hub layout, or a hub id.")
]
Device = Annotated[
    str | None,
    typer.Option(help="Where the model runs, such as cpu, cuda or cuda:1.  [default: cpu]"),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="Precision: float32, bfloat16, float16, or auto (as stored).  [default: the fastest that keeps effects, "
        "measured; bundled models float32]"
    ),
]
Experts = Annotated[
    str | None,
    typer.Option(
        help="How transformers runs the experts: eager, batched_mm, grouped_mm.  [default: its own]"
    ),
]

DeviceMap = Annotated[
    str | None,
    typer.Option(help="auto spreads layers over all devices.  [default: one device, --device]"),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        help="What weights may take, such as 12GiB.  [default: what is free, less a tenth]"
    ),
]
Offload = Annotated[
    str,
    typer.Option(
        help="auto streams a model that does not fit layer by layer from its files, stream does always, none never."
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Write over what another run left at the place named.")
]


def placement(device_map: str | None, max_memory: str | None, offload: str) -> dict[str, Any]:
    """The options of placement as `moeaudit.load` takes them."""
    never = None if offload == "none" else offload
    return {"device_map": device_map, "max_memory": max_memory, "offload": never}


def load_model(
    name: str, device: str | None, dtype: str | None, experts: str | None, **placed: Any
) -> Model:
    """The model a command was given, as its options ask for it. Raises ModelError, ContractError."""
    from moeaudit.models import load

    from .terminal.console import tell_of_checks

    tell_of_checks()
    return load(name, device=device, dtype=dtype, experts_implementation=experts, **placed)


def parse_layers(text: str | None) -> list[int] | None:
    """`0,3-5` as [0, 3, 4, 5]; None for every layer."""
    if text is None:
        return None
    layers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise InputError(
                f"--layers {text!r} cannot be read at {part.strip()!r}. Give decoder layer numbers "
                "and ranges separated by commas, such as 0,3-5."
            )
        low, high = int(first), int(last) if dash else int(first)
        if high < low:
            raise InputError(f"--layers {text!r} has the range {part.strip()!r} backwards.")
        layers |= set(range(low, high + 1))
    return sorted(layers)


def default_out(model: str, operator: str = "zero") -> Path:
    """`runs/<name of the model>` under the working directory; other operators have folders of their own."""
    name = Path(model).name if Path(model).exists() else model.replace("/", "--")
    name = name or "model"
    if operator != "zero":
        name += "--" + "".join(c if c.isalnum() or c in "-." else "-" for c in operator)
    return Path("runs") / name


def readable(path: Path | str | None, option: str) -> None:
    """Raise InputError unless there is a file or a folder at `path`; None asks for nothing."""
    if path is None:
        return
    try:
        there = Path(path).exists()
    except (OSError, ValueError):
        there = False
    if not there:
        raise InputError(
            f"{option} {str(path)!r}: there is no such file or folder. Give a folder of text files, a text file "
            "or a .jsonl file."
        )


def writable(path: Path | None, option: str, *, folder: bool) -> None:
    """Raise RunError unless a folder, or a file, can be written at `path`; None asks for nothing."""
    if path is not None:
        require_place(path, option, folder=folder)


def at_least(value: int | None, least: int, option: str, why: str = "") -> None:
    """Raise InputError for a number below `least`."""
    if value is not None and value < least:
        raise InputError(f"{option} is {value}; {least} or more is needed{why}.")
