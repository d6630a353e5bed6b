"""The three models at their true size, streamed from disk: does a census fit, how long does it take, is it right?

    python benchmarks/full_size.py qwen2_moe /tmp/full               # writes 29 GB there, then measures
    python benchmarks/full_size.py deepseek_v2 /tmp/full --delete    # and takes it away again
    python benchmarks/full_size.py olmoe /tmp/full --scale 0.05      # small, for a test of the script

Weights are random (`checkpoints.py`), configuration and layout are the hub's; `--from FOLDER` measures a
checkpoint that is there. The census is of every token x layer x active expert of `--documents` documents of
`--tokens` random token ids. A random sample of its rows is computed again by plain forwards of the whole model
with one hook each, which share no code with the walk. Efficiency is (FLOPs the census needs) / its time over the
same ratio of that plain, batched forward: both read all weights once.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from checkpoints import REAL, write

import moeaudit as ma
from moeaudit.causal import replay_for
from moeaudit.models.placement.stream import traffic

GIB = 2**30


@dataclass
class Measured:
    """What one run found. Bytes and seconds; differences in nats."""

    model: str
    scale: float
    documents: int
    tokens: int
    threads: int
    dtype: str = ""
    engine: str = ""
    parameters: int = 0
    stored_bytes: int = 0
    removals: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)
    waited: float = 0.0
    peak_resident: int = 0
    peak_anonymous: int = 0
    tflop: float = 0.0
    efficiency: float = 0.0
    sample: int = 0
    largest_difference: float = 0.0
    largest_sampled_effect: float = 0.0
    median_effect: float = 0.0

    @property
    def rate(self) -> float:
        return self.removals / self.seconds["census"]


class Memory:
    """The largest resident and the largest anonymous memory of this process, looked at ten times a second."""

    def __init__(self) -> None:
        self.anonymous = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            self.anonymous = max(self.anonymous, _status("RssAnon"))

    def stop(self) -> tuple[int, int]:
        self._stop.set()
        self._thread.join()
        return _status("VmHWM"), self.anonymous


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


@contextmanager
def timed(found: Measured, model: Any, stage: str) -> Iterator[None]:
    """Seconds and bytes of one stage; said as soon as it is over."""
    so_far = None if model is None else traffic(model.hf)
    before, start = (so_far.bytes_read if so_far else 0), time.perf_counter()
    yield
    found.seconds[stage] = time.perf_counter() - start
    found.read[stage] = (so_far.bytes_read if so_far else 0) - before
    print(
        f"{time.strftime('%H:%M:%S')} {stage}: {found.seconds[stage]:.1f} s, {found.read[stage] / 1e9:.1f} GB read, "
        f"resident at most {_status('VmHWM') / GIB:.2f} GiB",
        flush=True,
    )


def measure(args: argparse.Namespace) -> Measured:
    """Write the checkpoint if it is not there, run the census, and check a sample of it."""
    threads = torch.get_num_threads()
    found = Measured(args.model, args.scale, args.documents, args.tokens, threads)
    folder = args.source or args.folder / args.model
    if args.source is None:
        with timed(found, None, "write"):
            wrote = write(
                folder,
                args.model,
                scale=args.scale,
                workers=1 if args.scale < 1 else os.cpu_count() or 1,
            )
        found.stored_bytes, found.parameters = wrote["bytes"], wrote["parameters"]
    memory = Memory()
    with timed(found, None, "load"):
        model = ma.load(folder, dtype=args.dtype, offload=args.offload, max_memory=args.max_memory)
    print(f"{model!r}", flush=True)
    found.dtype = str(model.dtype).removeprefix("torch.")
    with timed(found, model, "choose"):
        found.engine = str(replay_for(model))
    print(found.engine, flush=True)
    rng = np.random.default_rng(0)
    docs = [
        torch.from_numpy(rng.integers(0, model.vocab_size, args.tokens))
        for _ in range(args.documents)
    ]
    with timed(found, model, "census"):
        effects: Any = ma.ablate(model, docs)
    found.removals = len(effects)
    size = effects["delta_nll"].abs()
    found.median_effect = float(size.median())
    with timed(found, model, "sample"):
        first = effects[effects["document"] == 0]
        rows = first.sample(min(args.sample, len(first)), random_state=0)
        again = plain_forwards(model, docs[0], rows)
    found.sample = len(rows)
    found.largest_difference = float(np.abs(again - rows["delta_nll"].to_numpy()).max())
    found.largest_sampled_effect = float(rows["delta_nll"].abs().max())
    found.tflop = args.documents * census_flop(model, args.tokens) / 1e12
    plain = (1 + found.sample) * args.tokens * sum(layer_flop(model)) / found.seconds["sample"]
    found.efficiency = found.tflop * 1e12 / found.seconds["census"] / plain
    so_far = traffic(model.hf)
    found.waited = so_far.seconds_waited if so_far else 0.0
    found.peak_resident, found.peak_anonymous = memory.stop()
    return found


@torch.no_grad()
def plain_forwards(model: ma.Model, ids: torch.Tensor, rows: Any) -> np.ndarray:
    """Delta NLL of each row by a whole forward with its expert's weight set to zero, one batch for all.

    Copy 0 is not edited. Neither the walk nor the operators are used: one hook on an experts module.
    """
    copies, tokens = 1 + len(rows), len(ids)
    edits: dict[int, list[tuple[int, int, int]]] = {}
    for copy, row in enumerate(rows.to_dict("records"), 1):
        edits.setdefault(row["layer"], []).append((copy, row["position"], row["expert"]))

    def editing(places: list[tuple[int, int, int]]):
        def hook(module: Any, args: tuple) -> tuple:  # noqa: ARG001
            hidden, index, weight = args
            weight = weight.clone()
            for copy, position, expert in places:
                at = copy * tokens + position
                weight[at] = torch.where(index[at] == expert, 0.0, weight[at])
            return hidden, index, weight

        return hook

    layers = {
        name: module for name, module in model.hf.named_modules() if name.endswith(".experts")
    }
    with ExitStack() as stack:
        for layer, places in edits.items():
            (module,) = [m for name, m in layers.items() if f".layers.{layer}." in name]
            stack.callback(module.register_forward_pre_hook(editing(places)).remove)
        hidden = model.hf.model(input_ids=ids.expand(copies, -1), use_cache=False).last_hidden_state
    head: Any = model.hf.get_output_embeddings()

    def nll(copy: int, position: int) -> float:
        return -float(head(hidden[copy, position]).float().log_softmax(-1)[ids[position + 1]])

    places = enumerate(rows["position"].tolist(), 1)
    return np.array([nll(copy, at) - nll(0, at) for copy, at in places])


def layer_flop(model: ma.Model) -> list[float]:
    """FLOPs of the matrix products of one token in each decoder layer: two for each active weight."""
    out = []
    moe = {layer.index: layer for layer in model.anatomy.layers}
    for i, layer in enumerate(model.anatomy.decoder_layers):
        everything = sum(p.numel() for p in layer.parameters() if p.dim() > 1)
        if i in moe:
            experts = sum(p.numel() for p in moe[i].experts.parameters())
            everything -= experts * (1 - moe[i].top_k / moe[i].num_experts)
        out.append(2.0 * everything)
    return out


def _head_flop(model: ma.Model) -> float:
    head = model.hf.get_output_embeddings()
    assert head is not None
    return 2.0 * head.weight.numel()  # type: ignore[operator, union-attr]


def census_flop(model: ma.Model, tokens: int) -> float:
    """FLOPs that a census of one document needs: its clean forward, and each row from its birth upward."""
    each, head = layer_flop(model), _head_flop(model)
    total = tokens * (sum(each) + head)
    for layer in model.anatomy.layers:
        expert = 2.0 * sum(p.numel() for p in layer.experts.parameters()) / layer.num_experts
        above = sum(each[layer.index + 1 :]) + head
        total += (tokens - 1) * layer.top_k * (expert + above)
    return total


def said(found: Measured) -> str:
    """The figures as lines."""
    total = sum(found.read.values())
    return "\n".join(
        [
            f"{found.model}, scale {found.scale:g}: {found.parameters:,} parameters, "
            f"{found.stored_bytes / 1e9:.2f} GB stored, "
            f"computed in {found.dtype} with {found.threads} threads",
            f"{found.engine}",
            f"{found.removals:,} removals of {found.documents} x {found.tokens} tokens in "
            f"{found.seconds['census']:.1f} s: "
            f"{found.rate:.1f} a second, {found.tflop:.2f} TFLOP, efficiency {found.efficiency:.2f}",
            f"peak memory {found.peak_resident / GIB:.2f} GiB resident, {found.peak_anonymous / GIB:.2f} GiB of "
            "it anonymous",
            f"{total / 1e9:.1f} GB of weights read after loading ({found.read['census'] / 1e9:.1f} by the "
            "census); computation "
            f"waited {found.waited:.1f} s for reading",
            f"median |delta NLL| {found.median_effect:.2e} nats; {found.sample} rows by plain forwards differ by "
            "at most "
            f"{found.largest_difference:.1e} (largest effect among them {found.largest_sampled_effect:.1e})",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", choices=sorted(REAL))
    parser.add_argument(
        "folder", type=Path, help="where checkpoints are written, each in a folder of its own"
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        help="a checkpoint that is there, instead of random weights",
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="widths times this; 1 is the real size"
    )
    parser.add_argument("--documents", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--sample", type=int, default=63, help="rows computed again")
    parser.add_argument("--dtype", default="float32", help="what weights compute in")
    parser.add_argument("--offload", default="stream", choices=["stream", "auto"])
    parser.add_argument("--max-memory", help="what weights may take, such as 8GiB")
    parser.add_argument(
        "--delete", action="store_true", help="delete the written checkpoint at the end"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("moeaudit").setLevel(logging.INFO)  # how far the checks have come
    print(
        f"{os.cpu_count()} CPUs, {torch.get_num_threads()} threads, torch {torch.__version__}",
        flush=True,
    )
    found = measure(args)
    print(said(found))
    if args.json:
        args.json.write_text(json.dumps(asdict(found), indent=1))
    if args.delete and args.source is None:
        shutil.rmtree(args.folder / args.model)


if __name__ == "__main__":
    main()
