"""What a census of well-known models costs, from their configurations, beside what was measured.

    python benchmarks/costs.py --out docs/costs.md --measured docs/measured/*.json

No weights, no network: configurations are transformers' classes with the published values
(`moeaudit/runs/costs/known.py`), machines are stated (`moeaudit/runs/costs/machine.py`). `--measured` takes
files that `benchmarks/full_size.py --json` or `benchmarks/gpu.py --out` wrote and sets each of their censuses
beside the estimate; without files the page says that nothing was compared. Those in `docs/measured` hold the
figures of docs/full-size.md and docs/gpu.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import moeaudit as ma
from moeaudit.errors import InputError, MoeAuditError
from moeaudit.models.accounting.known import KNOWN
from moeaudit.runs.costs import STATED, Cost
from moeaudit.runs.costs.words import duration, flops, size_of

TOKENS = 128
CORPORA = {"160 documents": 160, "1 M tokens": 1_000_000 // TOKENS}
# Names in files of measurements, beside the ends of the hub's own.
_ALIASES = {
    "olmoe": "allenai/OLMoE-1B-7B-0924",
    "OLMoE-1B-7B": "allenai/OLMoE-1B-7B-0924",
    "qwen2_moe": "Qwen/Qwen1.5-MoE-A2.7B",
    "deepseek_v2": "deepseek-ai/DeepSeek-V2-Lite",
}

HEAD = """# What a census costs

`moeaudit plan MODEL` says before anything is loaded what an audit of a model takes, here or on a stated machine; in
Python `ma.cost(model)`. This page is written by

    python benchmarks/costs.py --out docs/costs.md --measured docs/measured/*.json

from the configurations alone. **Times in these tables are reckoned, not measured**: operations divided by a rate that
is assumed for each kind of machine, and bytes by an assumed bandwidth. What was measured stands at the end.
"""

HOW = """## How it is counted

A token that goes through a matrix of *m x n* weights takes 2*mn* operations (attention projections, router, shared
experts, the *k* routed experts that work, head), and attending to a key 2 x heads x (query width + value width). A
document of *T* tokens has (*T* - 1) x the sum of *k* over its MoE layers removals. A removal at layer *b* is one more
token in every layer above *b* and in the head. Parameters and shapes are those of transformers' own class, built
without weights. The count of a clean forward equals torch's `FlopCounterMode` for 20 architectures (to the last
operation, masked scores apart; ernie's rotary embedding is a product as well, 0.04 %), and the bundled models' walk
computes 1.11 to 1.15 times what is counted: the pass-through rows and experts' outputs at birth are the rest
(`tests/runs/costs`).

Memory is weights, or two decoder layers with embedding and head where they are streamed; a float32 residual for
each row and token of the documents in a walk; and 1 GiB of blocks. Where the products are made in another dtype than
is stored, one layer's copy is added. Documents go into a walk as memory allows, and streamed weights are read once a
walk, beside the computing. Clean passes for routing and metrics (three more a document) are in the time; loading the
tokenizer, statistics (seconds to minutes, whatever the model) and the page are not.
"""


def tables() -> str:
    """A table for each corpus: models by machines."""
    out = []
    for title, documents in CORPORA.items():
        out.append(
            f"## {title[0].upper()}{title[1:]}\n\nEvery active expert of every token removed, "
            f"{documents:,} documents of {TOKENS} tokens.\n\n"
            f"| model | removals | work | {' | '.join(STATED)} |\n|---|---:|---:|{'---:|' * len(STATED)}"
        )
        for repo in KNOWN:
            found = {
                name: ma.cost(repo, documents=documents, tokens=TOKENS, machine=name)
                for name in STATED
            }
            one = next(iter(found.values()))
            cells = " | ".join(cell(each) for each in found.values())
            out.append(
                f"| {repo.split('/')[1]} | {one.work.rows:,} | {flops(one.work.flops)} | {cells} |"
            )
        out.append("")
    out.append(
        "*s*: weights are streamed (from host memory where they stay there, else from the disk), and where reading\n"
        "takes longer than computing it sets the time (*r*). A dash: two layers and a block of rows are more than the\n"
        "machine has. `--share 0.05` scales the rows; the clean passes stay.\n"
    )
    return "\n".join(out)


def cell(found: Cost) -> str:
    if not found.memory.fits:
        return f"- (needs {size_of(found.memory.least)})"
    marks = ""
    if found.memory.streams:
        marks = " *r*" if found.read_seconds > found.compute_seconds else " *s*"
    return duration(found.seconds) + marks


def models() -> str:
    """Sizes, and where the values come from."""
    rows = [
        "## The models\n",
        "| model | parameters | active | bfloat16 | rows a document | TFLOP a document | clean forwards | head | "
        "values from |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for repo, known in KNOWN.items():
        found = ma.cost(repo, documents=160, tokens=TOKENS, machine="h100")
        shapes, work = found.shapes, found.work
        stored = f"; stored as {known.quantised}" if known.quantised else ""
        rows.append(
            f"| {repo} | {shapes.parameters / 1e9:.2f} B | {shapes.active / 1e9:.2f} B | "
            f"{size_of(found.memory.weights)} | {work.rows // 160:,} | {work.flops / 160e12:,.1f} | "
            f"{work.forwards:.0f} | {work.head_share:.0%} | {known.source}{stored} |"
        )
    rows.append(
        "\nEach comes out at its published number of parameters to 0.5 % (a test). Quantised checkpoints are counted\n"
        "as dequantised. That a model's experts keep the router contract is seen when it is loaded; the first three\n"
        "are what this suite is made for, and of the others only the cost was looked at here.\n"
    )
    return "\n".join(rows)


def machines() -> str:
    rows = ["## The machines\n", "| name | assumption |", "|---|---|"]
    rows += [f"| {name} | {each.how.removeprefix('assumed: ')} |" for name, each in STATED.items()]
    return "\n".join(rows) + "\n"


@dataclass(frozen=True)
class Point:
    """One measured census of random or trained weights at the model's real size."""

    repo: str
    documents: int
    tokens: int
    removals: int
    seconds: float
    where: str
    peak: float | None = None
    cpu: bool = False


def measured_points(files: list[Path]) -> Iterator[Point]:
    """The censuses in files of `benchmarks/full_size.py --json` and `benchmarks/gpu.py --out`.

    Raises InputError for a file that is neither, or a model that was scaled down.
    """
    for file in files:
        try:
            found: dict[str, Any] = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{file} cannot be read as measurements ({error}). Give a JSON file of benchmarks/full_size.py or "
                "benchmarks/gpu.py."
            ) from error
        points = list(_points(found, file))
        if not points:
            raise InputError(
                f"{file} holds no census: seconds, removals, documents and tokens were looked for, as "
                "benchmarks/full_size.py and benchmarks/gpu.py write them."
            )
        yield from points


def _points(found: dict[str, Any], file: Path) -> Iterator[Point]:
    if isinstance(found.get("seconds"), dict):  # full_size.py: one model a file
        if found.get("scale", 1) != 1:
            raise InputError(
                f"{file} is of a model scaled by {found['scale']}; the real size was expected."
            )
        threads = found["threads"]
        where = f"CPU, {threads} thread{'s' * (threads != 1)}, {found['dtype']}, streamed"
        yield Point(
            _repo(found["model"], file), found["documents"], found["tokens"], found["removals"],
            float(found["seconds"]["census"]), where, float(found["peak_resident"]), cpu=True,
        )  # fmt: skip
        return
    card = str((found.get("card") or {}).get("device", {}).get("name", "GPU"))
    for name, parts in found.items():
        census = parts.get("census") if isinstance(parts, dict) else None
        if isinstance(census, dict) and "seconds" in census:
            yield Point(
                _repo(name, file), census["documents"], census["tokens"], census["removals"],
                float(census["seconds"]), card,
                float(census["peak_GiB"]) * 2**30 if "peak_GiB" in census else None,
            )  # fmt: skip


def _repo(name: str, file: Path) -> str:
    for repo in KNOWN:
        if name == repo or name == repo.split("/")[1] or _ALIASES.get(name) == repo:
            return repo
    raise InputError(f"{file}: '{name}' is none of {', '.join(KNOWN)}.")


def compared(points: list[Point]) -> str:
    """Each measured census beside the estimate: rows must be equal; the rate is what was reached."""
    if not points:
        return (
            "## Beside measurements\n\nNothing was compared when this page was written: `--measured` takes the files\n"
            "of `benchmarks/full_size.py --json` and `benchmarks/gpu.py --out`.\n"
        )
    rows = [
        "## Beside measurements\n",
        "The estimate for a card is that of `h100`; that of a CPU goes by what the machine is measured to do when\n"
        "it is asked for, so of those the rate that was reached is given alone. No card of 24 GB and no cluster of\n"
        "cards was measured.\n",
        "| model | where | documents x tokens | removals, counted / measured | seconds | estimate | reached | "
        "peak memory |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for point in points:
        found = ma.cost(
            point.repo, documents=max(4, point.documents), tokens=point.tokens, machine="h100"
        )
        scale = point.documents / found.documents
        peak = "not written down" if point.peak is None else size_of(point.peak)
        rows.append(
            f"| {point.repo.split('/')[1]} | {point.where} | {point.documents} x {point.tokens} | "
            f"{round(found.work.rows * scale):,} / {point.removals:,} | {point.seconds:,.1f} | "
            f"{'-' if point.cpu else f'{found.compute_seconds * scale:,.1f}'} | "
            f"{flops(found.work.flops * scale / point.seconds)}/s | {peak} |"
        )
    return "\n".join(rows) + "\n"


def page(points: list[Point]) -> str:
    return "\n".join([HEAD, tables(), machines(), models(), HOW, compared(points)])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--measured", type=Path, nargs="*", default=[])
    options = parser.parse_args(arguments)
    try:
        text = page(list(measured_points(options.measured)))
    except MoeAuditError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    options.out.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{options.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
