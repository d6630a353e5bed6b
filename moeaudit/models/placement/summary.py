"""What a loaded model holds and how it stands: bytes by dtype, what is quantised, whole or streamed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..anatomy import Kept
from .fits import free, said
from .stream import stream_of

if TYPE_CHECKING:
    from ..model import Model


@dataclass(frozen=True)
class Files:
    """What a model was read from: the method its files are quantised by, and their bytes by kind."""

    method: str | None
    bytes: dict[str, int]


# For models that `load` read; transformers forgets the method where it dequantises.
READ_FROM: Kept[Files] = Kept()
_PACKED = (torch.int8, torch.uint8, torch.int32, torch.float8_e4m3fn, torch.float8_e5m2)


def bytes_in_memory(hf: Any) -> dict[torch.dtype, int]:
    """Bytes of parameters and buffers by dtype, the largest first, in the kind that computes."""
    sizes: dict[torch.dtype, int] = {}
    for tensor in {id(t): t for t in (*hf.parameters(), *hf.buffers())}.values():
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.numel() * tensor.element_size()
    return dict(sorted(sizes.items(), key=lambda pair: -pair[1]))


def packed_share(hf: Any) -> float:
    """The share of bytes that is held in eight bits or fewer, or packed into whole numbers."""
    sizes = bytes_in_memory(hf)
    return sum(size for kind, size in sizes.items() if kind in _PACKED) / sum(sizes.values())


def quantised_by(hf: Any) -> str | None:
    """The method of a model that stands quantised here, or did in its files; None for plain weights."""
    quantizer = getattr(hf, "hf_quantizer", None)
    if quantizer is None:
        files = READ_FROM.of(hf)
        return None if files is None else files.method
    method = quantizer.quantization_config.quant_method
    return str(getattr(method, "value", method))


def held(model: Model) -> list[str]:
    """Lines for `moeaudit inspect`."""
    sizes = bytes_in_memory(model.hf)
    each = ", ".join(f"{str(k).removeprefix('torch.')} {said(n)}" for k, n in sizes.items())
    lines = [f"Weights: {said(sum(sizes.values()))} ({each})"]
    files = READ_FROM.of(model.hf)
    if files is not None:
        each = ", ".join(f"{kind} {said(n)}" for kind, n in files.bytes.items())
        lines.append(f"In the files: {said(sum(files.bytes.values()))} ({each})")
    share, method = packed_share(model.hf), quantised_by(model.hf)
    by = f" by {method}" if method else ""
    undone = f"; the files are{by}, dequantised here" if method else ""
    lines.append(
        f"Quantised{by}: {share:.0%} of the bytes"
        if share
        else f"Quantised: nothing, as it stands here{undone}"
    )
    streamed = stream_of(model.hf)
    if streamed is None:
        lines.append(f"Placement: whole, {said(free(model.device))} left on {model.device}")
    else:
        layers = streamed[0].layers
        stays = sum(sizes.values()) - sum(layer.bytes for layer in layers)
        most = stays + max(layer.bytes for layer in layers) + max(x.stored_bytes for x in layers)
        host = ""
        if streamed[0].keep:
            host = f"; all layers as they are stored, {said(sum(x.stored_bytes for x in layers))}, in host memory"
        lines.append(
            f"Placement: streamed, {said(stays)} stay on {model.device} and weights take at most {said(most)} at "
            f"once{host}"
        )
    return lines
