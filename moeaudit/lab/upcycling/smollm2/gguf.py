"""Reading a GGUF file, version 3, with numpy: its key/values, and its tensors as float32.

The format is that of llama.cpp (its GGUF specification): magic, version, counts, key/values, tensor descriptions,
data. Of the kinds of tensors those three are read that SmolLM2's file has.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from moeaudit.errors import ModelError

_SCALARS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "<u1", 10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_BLOCKS = {0: (1, 4), 3: (32, 20), 8: (32, 34)}  # kind: elements and bytes of a block


@dataclass(frozen=True)
class Gguf:
    """What a GGUF file says of itself (`values`) and its tensors by name, as float32 arrays."""

    values: dict[str, Any]
    tensors: dict[str, Float32[np.ndarray, "..."]]


def read_gguf(data: bytes) -> Gguf:
    """Read a whole GGUF file. Raises ModelError if it is none, is cut short, or packs tensors otherwise."""
    try:
        return _read(memoryview(data))
    except (struct.error, ValueError, UnicodeDecodeError) as error:
        raise ModelError(
            f"The GGUF file cannot be read to its end ({error}): it is damaged. Get it anew."
        ) from error


def _read(data: memoryview) -> Gguf:
    if bytes(data[:4]) != b"GGUF" or struct.unpack_from("<I", data, 4)[0] != 3:
        raise ModelError("A GGUF file of version 3 was expected; this is none.")
    n_tensors, n_values = struct.unpack_from("<QQ", data, 8)
    cursor = _Cursor(data, 24)
    values = {cursor.string(): cursor.value(cursor.number("<u4")) for _ in range(n_values)}
    described = []
    for _ in range(n_tensors):
        name = cursor.string()
        dims = [cursor.number("<u8") for _ in range(cursor.number("<u4"))]
        described.append((name, dims, cursor.number("<u4"), cursor.number("<u8")))
    align = values.get("general.alignment", 32)
    start = -(-cursor.at // align) * align
    tensors = {}
    for name, dims, kind, offset in described:
        if kind not in _BLOCKS:
            raise ModelError(
                f"Tensor {name} is of GGUF's kind {kind}; kinds 0 (F32), 3 (Q4_1) and 8 (Q8_0) are read here."
            )
        elements, size = _BLOCKS[kind]
        count = int(np.prod(dims))
        raw = np.frombuffer(data, np.uint8, count // elements * size, start + offset)
        # GGUF names the fastest dimension first.
        tensors[name] = _numbers(raw, kind).reshape(dims[::-1])
    return Gguf(values, tensors)


def _numbers(raw: UInt8[np.ndarray, " bytes"], kind: int) -> Float32[np.ndarray, " n"]:
    """Q4_1: blocks of a scale, an offset and 32 half bytes; Q8_0: of a scale and 32 bytes; scales in float16."""
    if kind == 0:
        return raw.view("<f4").astype(np.float32)
    block = raw.reshape(-1, _BLOCKS[kind][1])
    scale = block[:, :2].copy().view("<f2").astype(np.float32)
    if kind == 8:
        return (block[:, 2:].copy().view("i1").astype(np.float32) * scale).reshape(-1)
    offset = block[:, 2:4].copy().view("<f2").astype(np.float32)
    low_then_high = np.concatenate([block[:, 4:] & 15, block[:, 4:] >> 4], axis=1)
    return (low_then_high.astype(np.float32) * scale + offset).reshape(-1)


class _Cursor:
    """Reads one value after another."""

    def __init__(self, data: memoryview, at: int) -> None:
        self.data, self.at = data, at

    def number(self, kind: str) -> Any:
        found = np.frombuffer(self.data, kind, 1, self.at)[0].item()
        self.at += np.dtype(kind).itemsize
        return found

    def string(self) -> str:
        length = self.number("<u8")
        text = bytes(self.data[self.at : self.at + length])
        if len(text) < length:
            raise ValueError(f"a text of {length} bytes ends after {len(text)}")
        self.at += length
        return text.decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            of, length = self.number("<u4"), self.number("<u8")
            return [self.value(of) for _ in range(length)]
        if kind not in _SCALARS:
            raise ValueError(f"a value of unknown kind {kind}")
        found = self.number(_SCALARS[kind])
        return bool(found) if kind == 7 else found
