"""How a source's weights lie in its files, so that a checkpoint made from it lies the same way.

A model is often computed in a wider kind of number than its files hold. What was widened on loading is
written narrow again, tensor by tensor and only where nothing is lost by it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from moeaudit.models import Model
from moeaudit.models.bundled import bundled_folder
from moeaudit.models.placement.files import KINDS, stored_tensors
from moeaudit.models.placement.summary import READ_FROM
from moeaudit.models.sources.files import INDEX, weight_files

_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Source:
    """What is known of the files that a model was read from; all empty for a model object."""

    folder: Path | None
    kinds: dict[str, torch.dtype]  # of tensors by the names they are stored under
    kind: torch.dtype | None  # of tensors that are not among these, where all have one
    largest: int | None  # bytes of the largest of several shards; None for one file
    config_dtype: str | None


def source_of(model: Model) -> Source:
    """The files behind a model that `moeaudit.load` read from a place; of files that are gone, the one kind of
    number that they held, if it was one."""
    files = _files(model)
    if not files or not all(path.is_file() for path in files):
        read = READ_FROM.of(model.hf)
        held = {
            KINDS[k] for k in ({} if read is None or read.method else read.bytes) if k in _FLOATS
        }
        return Source(None, {}, _only(held), None, None)
    folder = files[0].parent
    kinds = {n: KINDS[t.kind] for n, t in stored_tensors(files).items() if t.kind in _FLOATS}
    config = _json(folder / "config.json")
    dtype = config.get("dtype", config.get("torch_dtype"))
    largest = max(path.stat().st_size for path in files) if len(files) > 1 else None
    wanted = dtype if isinstance(dtype, str) else None
    return Source(folder, kinds, _only(set(kinds.values())), largest, wanted)


def _only(kinds: set[torch.dtype]) -> torch.dtype | None:
    return next(iter(kinds)) if len(kinds) == 1 else None


def _files(model: Model) -> list[Path]:
    source = str(model.provenance.get("source", ""))
    if source.startswith("bundled:"):
        return weight_files(bundled_folder(source.removeprefix("bundled:")), None)
    if source.startswith("hub:"):
        revision = model.provenance.get("revision")
        return weight_files(source.removeprefix("hub:"), revision, cached=True)
    if source == "folder":
        folder = Path(getattr(model.hf, "name_or_path", ""))
        return weight_files(folder, None) if (folder / "config.json").is_file() else []
    return []


def shard_size(model: Model, source: Source) -> int | str:
    """What one file may take while tensors are still in the kind that computes; they shrink later."""
    if source.largest is None:
        return "50GB"  # transformers' own
    kinds = list(source.kinds.values())
    stored = min((kind.itemsize for kind in kinds), default=model.dtype.itemsize)
    return source.largest * max(1, model.dtype.itemsize // stored)


def store_as(folder: Path, source: Source, *, back: bool = False) -> dict[str, int]:
    """Write the tensors of a checkpoint in the kinds their source has; returns bytes by kind.

    One file at a time. A tensor that the source does not name, that it holds in a wider kind, or whose numbers
    the narrower kind does not hold exactly, stays as it is.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    bytes_of: dict[str, int] = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors = {}
        with safe_open(path, framework="pt") as stream:
            about = stream.metadata()
            for name in stream.keys():  # noqa: SIM118
                tensors[name] = _narrowed(
                    stream.get_tensor(name), source.kinds.get(name, source.kind), back
                )
        for tensor in tensors.values():
            kind = str(tensor.dtype).removeprefix("torch.")
            bytes_of[kind] = bytes_of.get(kind, 0) + tensor.numel() * tensor.element_size()
        if source.kinds or source.kind:
            save_file(tensors, path, metadata=about)
    index = folder / INDEX
    if index.is_file():
        listed = _json(index)
        listed["metadata"] = listed.get("metadata", {}) | {"total_size": sum(bytes_of.values())}
        index.write_text(json.dumps(listed, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return dict(sorted(bytes_of.items(), key=lambda pair: -pair[1]))


def _narrowed(tensor: torch.Tensor, kind: torch.dtype | None, back: bool) -> torch.Tensor:
    """`back`: from another half precision too, which was chosen by measurement and not asked for."""
    if kind is None or not tensor.is_floating_point():
        return tensor
    if kind.itemsize > tensor.dtype.itemsize or (
        kind.itemsize == tensor.dtype.itemsize and not back
    ):
        return tensor
    narrow = tensor.to(kind)
    return narrow if torch.equal(narrow.to(tensor.dtype), tensor) else tensor


def state_dtype(folder: Path, model: Model, source: Source, stored: dict[str, int]) -> None:
    """Let config.json ask for the kind that the source's asks for, unless the model was loaded narrower.

    `stored` is bytes by kind as they were written: where another half-precision kind could not be brought back to
    the source's without loss, config.json names the one that is there.
    """
    widest = max((kind.itemsize for kind in source.kinds.values()), default=0)
    other = {"bfloat16": "float16", "float16": "bfloat16"}.get(str(source.config_dtype))
    if source.config_dtype is None or widest > model.dtype.itemsize:
        return
    if "precision" in model.provenance and other in stored:
        return
    path = folder / "config.json"
    config: dict[str, Any] = _json(path)
    config["dtype"] = source.config_dtype
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
