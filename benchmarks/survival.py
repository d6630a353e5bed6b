"""Audits killed with SIGKILL at random moments and resumed, held against one that was left alone.

    OMP_NUM_THREADS=1 python benchmarks/survival.py --kills 50
    python benchmarks/survival.py --model FOLDER --text texts.jsonl --kills 3 --json survival.json

One run folder is worked on until it is finished: each process that works on it is killed after a time drawn
uniformly from 0 to what an undisturbed audit takes, and the same call is made again. A finished folder must equal
the undisturbed one in every byte of every Parquet file and hold nothing besides; then a new one is begun. Processes
are forked with the model in memory, so that no time goes into starting Python; to the system a kill is a kill.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import torch

import moeaudit as ma
from moeaudit.runs import LogProgress

# Imported before processes are forked, which would each do it again.
LATE = (
    *("moeaudit.report", "moeaudit.stats", "moeaudit.causal.check.verify", "moeaudit.runs.plans"),
    *("pyarrow.parquet", "plotly.graph_objects", "scipy.stats", "statsmodels.api"),
)


class Told(LogProgress):
    """Writes the name of the current stage to a file outside of the run folder."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def stage(self, name: str, total: int, unit: str, done: int = 0) -> None:
        self.path.write_text(name)
        super().stage(name, total, unit, done)


def started(model: ma.Model, docs: Any, out: Path, stage: Path, options: dict[str, Any]) -> int:
    """A process of its own that makes the audit; its id."""
    stage.write_text("before the first stage")
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        status = 1
        try:
            ma.audit(model, docs, out=out, progress=Told(stage), **options)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return process


def ended(process: int, seconds: float | None) -> bool:
    """Wait for a process, at most so long; True if it ended well. Raises RuntimeError if it failed."""
    until = None if seconds is None else time.monotonic() + seconds
    while True:
        found, status = os.waitpid(process, 0 if until is None else os.WNOHANG)
        if found:
            if os.waitstatus_to_exitcode(status) != 0:
                raise RuntimeError(f"an audit ended with status {status}")
            return True
        if until is not None and time.monotonic() >= until:
            return False
        time.sleep(0.002)


def killed(process: int) -> bool:
    """Kill it; False if it was faster."""
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return os.WIFSIGNALED(status)


def tables(folder: Path) -> dict[str, str]:
    """SHA-256 of every Parquet file, by name; of other files the names (times stand in them)."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.suffix == ".parquet" else ""
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def survive(
    model: ma.Model, docs: Any, place: Path, options: dict[str, Any], args: argparse.Namespace
) -> dict[str, Any]:
    """The figures: kills by stage, folders that were finished, and in how many of them a byte differs."""
    for name in LATE:
        importlib.import_module(name)
    draw = random.Random(args.seed)
    stage, since = place / "stage", time.monotonic()
    ended(started(model, docs, place / "alone", stage, options), None)
    alone = time.monotonic() - since
    wanted = tables(place / "alone")
    by_stage: Counter[str] = Counter()
    finished = different = 0
    folder = place / "killed"
    shortest = alone  # the machine has other work: kills after the end would be none
    while True:
        new, began = not folder.exists(), time.monotonic()
        process = started(model, docs, folder, stage, options)
        enough = by_stage.total() >= args.kills
        late = time.monotonic() - since > 60 * args.minutes
        if not ended(process, None if enough or late else draw.uniform(0, shortest)) and killed(
            process
        ):
            by_stage[stage.read_text()] += 1
            continue
        finished += 1
        shortest = min(shortest, time.monotonic() - began) if new else shortest
        if tables(folder) != wanted:
            different += 1
            print(
                f"folder {finished} differs: {sorted(set(tables(folder).items()) ^ set(wanted.items()))}"
            )
        shutil.rmtree(folder)
        print(
            f"{by_stage.total()} kills, {finished} folders finished, {different} differ", flush=True
        )
        if enough or late:
            break
    return {
        "kills": by_stage.total(),
        "by_stage": dict(by_stage.most_common()),
        "finished": finished,
        "different": different,
        "files": len(wanted),
        "seconds_alone": round(alone, 1),
        "seconds": round(time.monotonic() - since, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="tiny-olmoe", help="a bundled name or a folder")
    parser.add_argument("--text", help="a folder of text files or a .jsonl file")
    parser.add_argument("--documents", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--layers", type=int, nargs="*", help="decoder layers; all if not given")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=600.0, help="no further kill after these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    torch.set_num_threads(1)  # a forked process has none of its parent's other threads
    options = {
        "documents": args.documents,
        "tokens": args.tokens,
        "layers": args.layers,
        "verify_rows": 1,
        "verify_engines": ("hooks",),
    }
    model = ma.load(args.model)
    with tempfile.TemporaryDirectory(prefix="survival-") as place:
        found = survive(model, args.text, Path(place), options, args)
    print(json.dumps(found, indent=2))
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")
    if found["different"] or found["kills"] < args.kills:
        sys.exit(1)


if __name__ == "__main__":
    main()
