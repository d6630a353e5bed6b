"""Tensors as they lie in safetensors files, read by their place: nothing is mapped, nothing stays open.

Pages of a mapped file count as resident memory until its handle is closed, and a layer's tensors may lie
in several shards; so a file is opened for one read of some tensors and closed after it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


class Area:
    """Memory that tensors of files are read into, again and again: page-aligned, in huge pages where there are.

    What was read before is overwritten, so nobody may keep a view of it.
    """

    def __init__(self, size: int, *, pinned: bool = False) -> None:
        size = -(-size // _PAGE) * _PAGE
        self.bytes = (
            torch.empty(size + _PAGE, dtype=torch.uint8, pin_memory=True)
            if pinned
            else roomy((size + _PAGE,), torch.uint8)
        )
        ahead = -self.bytes.data_ptr() % _PAGE
        self.bytes = self.bytes[ahead : ahead + size]

    def read(
        self, tensors: Iterable[Stored], *, direct: bool = False
    ) -> dict[Stored, torch.Tensor]:
        """Views of these tensors, read now. Neighbours in a file are read in one go.

        With `direct`, the system's cache of files is passed by where the file system allows it, which
        saves a copy of a model that the cache could not hold anyway.
        Raises ModelError for a file that has gone or ends early.
        """
        out: dict[Stored, torch.Tensor] = {}
        at = 0
        for path, start, end, inside in runs(tensors):
            length = -(-(end - start) // _PAGE) * _PAGE
            memory: Any = self.bytes[at : at + length].numpy()
            _fill(path, start, end, memoryview(memory), direct)
            for one in inside:
                first = at + one.start - start
                out[one] = _as_tensor(self.bytes[first : first + one.bytes], one)
            at += length
        return out


_PAGE = 4096
_GAP = 1 << 20  # bytes between tensors that are read along rather than skipped


def runs(tensors: Iterable[Stored]) -> list[tuple[Path, int, int, list[Stored]]]:
    """Stretches of files that hold these tensors: path, first byte (of a page), last byte, and the tensors."""
    out: list[tuple[Path, int, int, list[Stored]]] = []
    for one in sorted(tensors, key=lambda one: (str(one.path), one.start)):
        path, start, end, inside = out[-1] if out else (None, 0, 0, [])
        if path == one.path and one.start - end <= _GAP:
            inside.append(one)
            out[-1] = (one.path, start, max(end, one.start + one.bytes), inside)
        else:
            first = one.start // _PAGE * _PAGE
            out.append((one.path, first, one.start + one.bytes, [one]))
    return out


def room_for(tensors: Iterable[Stored]) -> int:
    """Bytes of an area that takes these tensors."""
    return sum(-(-(end - start) // _PAGE) * _PAGE for _, start, end, _ in runs(tensors))


def roomy(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """An empty tensor on the CPU, in huge pages if it is large: small ones cost more than the reading."""
    size = torch.Size(shape).numel() * dtype.itemsize
    huge = getattr(mmap, "MADV_HUGEPAGE", None)
    if huge is None or size < 1 << 22:
        return torch.empty(shape, dtype=dtype)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without huge pages
        memory.madvise(huge)
    return torch.frombuffer(memory, dtype=dtype).view(shape)


def _as_tensor(raw: torch.Tensor, one: Stored) -> torch.Tensor:
    if raw.storage_offset() % one.dtype.itemsize or raw.data_ptr() % one.dtype.itemsize:
        raw = raw.clone()
    return raw.view(one.dtype).view(one.shape)


def _fill(path: Path, start: int, end: int, memory: memoryview, direct: bool) -> None:  # noqa: FBT001
    flag = getattr(os, "O_DIRECT", 0) if direct else 0
    try:
        try:
            handle = os.open(path, os.O_RDONLY | flag)
        except OSError as error:
            if error.errno != errno.EINVAL or not flag:
                raise
            handle, flag = os.open(path, os.O_RDONLY), 0  # a file system without it
        try:
            _read(handle, start, end, memory, path)
        finally:
            os.close(handle)
    except OSError as error:
        if flag and error.errno == errno.EINVAL:
            _fill(path, start, end, memory, direct=False)
            return
        raise ModelError(
            f"Weights could not be read: {error}. A streamed model reads its files as long as it is used; "
            "leave them where they were when it was loaded."
        ) from error


def _read(handle: int, start: int, end: int, memory: memoryview, path: Path) -> None:
    at, wanted = 0, end - start
    while at < wanted:
        got = os.preadv(handle, [memory[at : at + _ONCE]], start + at)
        if got == 0:
            raise ModelError(
                f"'{path}' ended before its tensors did, though it did not when the model was loaded. Load the "
                "model again from complete files."
            )
        at += got


_ONCE = 1 << 28  # bytes asked of the system at once
