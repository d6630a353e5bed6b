"""The place where a reader explores experts and tokens: its data, script and style, packed into the page.

The page is complete without it: it is built by script, when a reader comes near or follows a link to it.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from moeaudit.store.files import read_table

from ..words.operator import OperatorWords
from .template import static

# One idea a file; a file uses what stands before it.
SCRIPTS = (
    "dom",
    "words",
    "data",
    "state",
    "colour",
    "map",
    "card",
    "route",
    "read",
    "find",
    "spare",
    "main",
)


@dataclass(frozen=True)
class Explorer:
    """What the template needs: `packed` is None, with a reason in `absent`, where there is no expert to explore."""

    packed: Markup | None
    absent: str


def explorer(data: Mapping[str, Any], said: OperatorWords) -> Explorer:
    """`data` (of `moeaudit.report.explore.data`) as gzip in base64, which no text in it can leave."""
    why = data.get("absent")
    if why:
        return Explorer(None, str(why))
    words = {"one": said.one, "many": said.many, "removes": said.removes}
    text = json.dumps({**data, "said": words}, separators=(",", ":"), allow_nan=False)
    packed = gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0)
    return Explorer(Markup(base64.b64encode(packed).decode("ascii")), "")


def with_pruning(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """`data` with what a pruning in `folder`/pruning let go, where the run has one.

    "pruning" then holds, for each criterion (and scope and depth), one value a cell: the largest share of experts kept
    at which the cell's expert went; null if it always stayed. Random draws say nothing of an expert and are left out.
    """
    path = folder / "pruning" / "gone.parquet"
    if data.get("absent") or not path.is_file():
        return dict(data)
    gone = read_table(path)
    gone = gone[gone["criterion"] != "random"]
    cells = list(zip(data["cells"]["layer"], data["cells"]["expert"]))
    ways = gone[["scope", "depth"]].drop_duplicates()
    found: dict[str, list[float | None]] = {}
    for (criterion, scope, depth), part in gone.groupby(
        ["criterion", "scope", "depth"], sort=False
    ):
        name = str(criterion).replace("_", " ")
        name += f" ({scope}, {depth})" if len(ways) > 1 else ""
        first = part.groupby(["layer", "expert"])["keep"].max().to_dict()
        found[name] = [None if (keep := first.get(cell)) is None else float(keep) for cell in cells]
    return {**data, "pruning": found or None}


def script() -> str:
    """The script of the place, one scope."""
    parts = [static(f"explore/{name}.js") for name in SCRIPTS]
    return '(() => {\n"use strict";\n' + "\n".join(parts) + "})();\n"


def style() -> str:
    """Its style sheet; colours are those of the page."""
    return static("explore.css")
