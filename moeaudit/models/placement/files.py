"""Tensors as they lie in safetensors files, read by their place: nothing is mapped, nothing stays open.

Pages of a mapped file count as resident memory until its handle is closed, and a layer's tensors may lie
in several shards; so a file is opened for one read of some tensors and closed after it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from moeaudit.errors import ModelError

KINDS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class Stored:
    """One tensor of a file: where its bytes begin, how many there are, and what they are."""

    path: Path
    start: int
    bytes: int
    kind: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> torch.dtype:
        if self.kind not in KINDS:
            raise ModelError(
                f"'{self.path}' holds a tensor of kind {self.kind}, which torch has no dtype for. Kinds that can be "
                f"read are {', '.join(KINDS)}; convert the checkpoint to one of them."
            )
        return KINDS[self.kind]


def stored_tensors(files: Iterable[Path]) -> dict[str, Stored]:
    """Every tensor of these files by name, from their headers alone.

    Raises ModelError for a file that is missing, is no safetensors file, or ends before its tensors do.
    """
    found: dict[str, Stored] = {}
    for path in files:
        if not path.is_file():
            raise ModelError(
                f"The shard '{path.name}' is missing from '{path.parent}', which the checkpoint's index names. Every "
                "shard is needed, since an audit of random weights means nothing. Download it again, or copy "
                "the file beside the others."
            )
        found |= _header(path)
    return found


def _header(path: Path) -> dict[str, Stored]:
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        try:
            if not 2 <= length <= size - 8:
                raise ValueError
            header = json.loads(stream.read(length))
        except ValueError as error:
            raise ModelError(
                f"'{path}' could not be loaded: its header is not that of a safetensors file. The download was "
                "cut or the file is of another format; get it again."
            ) from error
    header.pop("__metadata__", None)
    out = {}
    for name, about in header.items():
        start, end = about["data_offsets"]
        out[name] = Stored(
            path, 8 + length + start, end - start, about["dtype"], tuple(about["shape"])
        )
        if 8 + length + end > size:
            raise ModelError(
                f"'{path}' ends after {size:,} bytes, and the tensor '{name}' in it should reach to byte "
                f"{8 + length + end:,}: the file was cut. Download it again."
            )
    return out


def read_into(parts: Iterable[tuple[Stored, torch.Tensor]]) -> int:
    """Read tensors into memory that is there: contiguous CPU tensors of the stored dtype and size.

    Returns the bytes read. Raises ModelError for a file that has gone or ends early.
    """
    handles: dict[Path, int] = {}
    total = 0
    try:
        for stored, out in parts:
            if stored.path not in handles:
                handles[stored.path] = os.open(stored.path, os.O_RDONLY)
            memory = memoryview(out.view(torch.uint8).flatten().numpy()).cast("B")  # type: ignore[arg-type]
            _fill(handles[stored.path], memory, stored)
            total += stored.bytes
    except OSError as error:
        raise ModelError(
            f"Weights could not be read: {error}. A streamed model reads its files as long as it is used; leave them "
            "where they were when it was loaded."
        ) from error
    finally:
        for handle in handles.values():
            os.close(handle)
    return total


def _fill(handle: int, memory: memoryview, stored: Stored) -> None:
    if len(memory) != stored.bytes:
        raise ValueError(f"{len(memory)} bytes cannot take a tensor of {stored.bytes}")
    at = 0
    while at < len(memory):
        got = os.preadv(handle, [memory[at:]], stored.start + at)
        if got == 0:
            raise ModelError(
                f"'{stored.path}' ended before its tensors did, though it did not when the model was loaded. Load "
                "the "
                "model again from complete files."
            )
        at += got


def read(stored: Stored) -> torch.Tensor:
    """One tensor, in memory of its own."""
    out = torch.empty(stored.shape, dtype=stored.dtype)
    read_into([(stored, out.view(-1))])
    return out
