"""This machine, measured in some ten seconds: a plain forward at a model's sizes, and its disk."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from moeaudit.models.accounting.config import Found
from moeaudit.models.accounting.shapes import Shapes, without_weights

from .machine import Machine, free_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# A census' operations a second over those of a batched plain forward: 0.45 to 0.55 were measured on the bundled
# models (8 documents of 128 tokens, one thread), whose matrices are small; benchmarks/throughput.py measures it. Of
# the three models at true size no plain forward was timed on the same machine (docs/costs.md).
EFFICIENCY = 0.5
SECONDS = 10.0
RESERVE = 0.9  # of the memory that is free now, since others use the machine as well
# Enough tokens that experts see many rows each, as they do in a walk.
_BATCH, _TOKENS = 32, 64
_COLUMNS = 8192  # the head is computed in blocks of the vocabulary
_READ = 1 << 28


def measured(
    found: Found,
    shapes: Shapes,
    head_share: float | int,
    *,
    device: Any = "cpu",
    dtype: torch.dtype = torch.float32,
    seconds: float | int = SECONDS,
    efficiency: float | int = EFFICIENCY,
    disk: bool = True,
) -> Machine:
    """Measure this machine for a model.

    A plain forward of 32 texts of 64 tokens through one MoE layer of the model's own class and size, with
    random weights, and a block of its head, each counted by its share of the work. Where that layer takes
    more than a quarter of the free memory, its matrices alone are timed, one after the other. On a CPU a
    `dtype` other than float32 is tried beside it and the faster is taken. Times are of the wall:
    what else the machine does now is in them.
    """
    where = torch.device(device)
    kinds = list(dict.fromkeys([dtype, torch.float32] if where.type == "cpu" else [dtype]))
    each = seconds * (0.8 if disk else 1.0) / len(kinds)
    free = free_memory(where)
    rates: dict[torch.dtype, float] = {}
    whole = True
    for kind in kinds:
        whole = shapes.largest * kind.itemsize < 0.25 * free
        layer = (layer_rate if whole else matrix_rate)(found, shapes, where, kind, 0.8 * each)
        head = product_rate(_BATCH * _TOKENS, shapes.hidden, shapes.vocab, where, kind, 0.2 * each)
        rates[kind] = 1.0 / (head_share / head + (1.0 - head_share) / layer)
    best = max(rates, key=lambda kind: rates[kind])
    read, said = (disk_rate(found.folder), "measured") if disk else (3e9, "assumed")
    threads = f", {torch.get_num_threads()} thread(s)" if where.type == "cpu" else ""
    what = "a plain forward of one layer and the head" if whole else "one layer's matrix products"
    name = str(best).removeprefix("torch.")
    return Machine(
        "here",
        str(where),
        rates[best] * efficiency,
        RESERVE * free,
        read,
        host=0.0 if where.type == "cpu" else float(free_memory("cpu")),
        link=0.0 if where.type == "cpu" else link_rate(where),
        how=f"measured: {what} at {rates[best] / 1e9:,.3g} GFLOP/s in {name} on {where}{threads}, of which a census "
        f"is taken to reach {efficiency:.0%}; reading at {read / 1e9:.1f} GB/s ({said})",
    )


def layer_rate(
    found: Found, shapes: Shapes, device: torch.device, dtype: torch.dtype, seconds: float | int
) -> float:
    """FLOP/s of a plain forward through the model's first MoE layer alone, with random weights."""
    model = without_weights(found)
    index = shapes.moe[0].index
    base: Any = model.base_model
    stack = model.get_submodule(shapes.anatomy.layers_path)
    parent, _, name = shapes.anatomy.layers_path.rpartition(".")
    setattr(model.get_submodule(parent), name, nn.ModuleList([stack[index]]))  # type: ignore[index]
    config = model.config.get_text_config()
    config.num_hidden_layers = 1
    _filled(base, device, dtype)
    ids = torch.randint(shapes.vocab, (_BATCH, _TOKENS), device=device)
    layer = shapes.layers[index]
    work = 2.0 * _BATCH * _TOKENS * (layer.active + layer.per_key * (_TOKENS + 1) / 2)

    def forward(some: torch.Tensor = ids) -> None:
        base(input_ids=some, use_cache=False)

    with torch.no_grad():
        forward(ids[:1])  # the first call chooses kernels
        return work * _times_a_second(forward, device, seconds)


def _filled(model: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> None:
    """Numbers of the size of weights for a model without: one block of them over and over, which is fast."""
    model.eval().to_empty(device=device)
    model.to(dtype=dtype)  # type: ignore[call-arg]
    block = 0.02 * torch.randn(1 << 20, device=device).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            flat = parameter.view(-1)
            for start in range(0, len(flat), len(block)):
                part = flat[start : start + len(block)]
                part.copy_(block[: len(part)])
        for buffer in model.buffers():
            buffer.fill_(0.01 if buffer.is_floating_point() else 0)


def matrix_rate(
    found: Found,  # noqa: ARG001 -- as layer_rate
    shapes: Shapes,
    device: torch.device,
    dtype: torch.dtype,
    seconds: float | int,
) -> float:
    """FLOP/s of the products that one MoE layer is made of, one matrix in memory at a time."""
    moe = shapes.moe[0]
    layer = shapes.layers[moe.index]
    rows = _BATCH * _TOKENS
    work: dict[tuple[int, int, int], float] = {}
    for width, out, times in layer.matrices:
        through = rows if times == 1 else max(1, rows * moe.top_k // moe.num_experts)
        key = (through, width, out)
        work[key] = work.get(key, 0.0) + width * out * times
    each, total = seconds / len(work), sum(work.values())
    return total / sum(
        share / product_rate(*shape, device, dtype, each) for shape, share in work.items()
    )


def product_rate(
    rows: int, width: int, out: int, device: torch.device, dtype: torch.dtype, seconds: float | int
) -> float:
    """FLOP/s of one product of `rows` x `width` by `width` x `out`, in blocks of 8,192 columns."""
    out = min(out, _COLUMNS)
    a = torch.randn(rows, width, device=device).to(dtype)
    b = torch.randn(out, width, device=device).to(dtype)
    _ = a[:1] @ b.T
    return 2.0 * rows * width * out * _times_a_second(lambda: a @ b.T, device, seconds)


def _times_a_second(work: Callable[[], Any], device: torch.device, seconds: float | int) -> float:
    _wait(device)
    done, since = 0, time.perf_counter()
    while done < 1 or time.perf_counter() < since + seconds:
        work()
        _wait(device)
        done += 1
    return done / (time.perf_counter() - since)


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def link_rate(device: torch.device) -> float:
    """Bytes a second from host memory to a device."""
    block = torch.empty(_READ, dtype=torch.uint8)
    if device.type == "cuda":
        block = block.pin_memory()
    return _READ * _times_a_second(lambda: block.to(device), device, 0.2)


def disk_rate(folder: Path | None = None) -> float:
    """Bytes a second read from the disk under `folder`, from a file of 256 MiB written and removed again.

    The system is asked to forget the file first; where it does not, the figure is of its cache.
    """
    here = folder if folder is not None and os.access(folder, os.W_OK) else None
    with tempfile.NamedTemporaryFile(dir=here, prefix="moeaudit-read-") as file:
        block = os.urandom(1 << 22)
        for _ in range(_READ // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        since = time.perf_counter()
        while file.read(len(block)):
            pass
        return _READ / (time.perf_counter() - since)
