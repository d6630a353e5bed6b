"""A model built without weights, its decoder layers brought from the checkpoint's files one at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from moeaudit.errors import ModelError

from ..placement.asked import streams
from ..placement.assembly import Recipe, recipes
from ..placement.files import Area, room_for, stored_tensors
from ..placement.fits import Need, bytes_in, free, usable
from ..placement.stream import Layer, Slot, Stream
from ..precision import is_half
from .fitting import left_over
from .tied import aliased

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from ..placement.asked import Asked
    from ..placement.files import Stored


@dataclass
class Skeleton:
    """A model on the meta device, and the recipe of every parameter, by decoder layer or around them."""

    name: str
    hf: PreTrainedModel
    around: list[Recipe]
    layers: list[list[Recipe]]
    layers_path: str
    left: list[str]  # names in the files that no parameter is made of

    def need(self, kind: torch.dtype) -> Need:
        """What it takes where all of it in half precision is brought in `kind`."""
        here = self.hf.state_dict()

        def size(made: list[Recipe]) -> int:
            found = [here[name] for recipe in made for name in recipe.shapes if name in here]
            return sum(bytes_in(x, kind) for x in found)

        sizes = [size(layer) for layer in self.layers]
        around = size(self.around)
        ahead = max(sum(recipe.bytes for recipe in layer) for layer in self.layers)
        return Need(around + sum(sizes), around, max(sizes), ahead, len(sizes))


def skeleton(
    auto: Any, config: Any, stored: Mapping[str, Stored], dtype: Any, name: str
) -> Skeleton:
    """Build the model on meta and settle how each parameter will be made. Raises ModelError."""
    kind = _kind(dtype, config, stored)
    with torch.device("meta"):
        hf = auto.from_config(config, dtype=kind)
    # Parameters that stay in float32 whatever the model computes in (transformers' own list).
    plan = hf._get_dtype_plan(kind)  # noqa: SLF001
    for path, tensor in (*hf.named_parameters(), *hf.named_buffers()):
        wide = [to for part, to in plan.items() if re.search(rf"\b{re.escape(part)}\b", path)]
        if wide:
            tensor.data = tensor.data.to(wide[0])
    made = recipes(hf, stored, name)
    path = _decoder_path(hf, name)
    count = len(hf.get_submodule(path))  # type: ignore[arg-type]
    around: list[Recipe] = []
    layers: list[list[Recipe]] = [[] for _ in range(count)]
    streamed = {n for n, _ in hf.named_parameters() if _inside(n, path)}
    for recipe in made:
        places = {_layer_of(target, path) for target in recipe.shapes if target in streamed}
        (layers[places.pop()] if len(places) == 1 else around).append(recipe)
    used = {id(one) for recipe in made for one in recipe.tensors}
    names = [key for key, one in stored.items() if id(one) in used]
    return Skeleton(name, hf, around, layers, path, left_over(hf, stored, names))


def placed(
    auto: Any, config: Any, files: list[Path], dtype: Any, name: str, asked: Asked
) -> Skeleton | None:
    """What to stream, or None for a model that transformers reads whole. Raises ModelError."""
    stored = stored_tensors(files)
    quantised = asked.quantization_config or getattr(config, "quantization_config", None)
    if asked.handed_on or quantised or not stored:
        if asked.offload == "stream":
            raise ModelError(
                f"'{name}' is quantised or has no safetensors weights, and only plain weights are streamed. Leave "
                "offload out, or "
                "use a checkpoint in bfloat16, float16 or float32."
            )
        return None
    kind = _kind(dtype, config, stored)
    numbers = sum(torch.Size(one.shape).numel() for one in stored.values())
    most = most_in(kind, dtype, asked)
    if asked.offload != "stream" and numbers * most.itemsize <= asked.budget:
        return None
    bones = skeleton(auto, config, aliased(stored, config), kind, name)
    return bones if streams(bones.need(most), name, asked) else None


def most_in(kind: torch.dtype, dtype: Any, asked: Asked) -> torch.dtype:
    """The widest kind of number for which there is to be room.

    Which one half precision is computed in is measured once the model stands (`precision.chosen`); on a CPU it
    is often float32, and then one layer at a time where the whole model is too large in it.
    """
    widens = dtype is None and is_half(kind) and asked.on.type == "cpu"
    return torch.float32 if widens and asked.offload is not None else kind


def kept(bones: Skeleton, dtype: Any, asked: Asked) -> bool:
    """Whether the layers' bytes stay in host memory as they are stored, to be read from the files once.

    For a device with memory of its own they do where they fit into the host's; on a CPU where the model is
    streamed only because it is too large in float32.
    """
    rooms = [room_for([x for recipe in layer for x in recipe.tensors]) for layer in bones.layers]
    if asked.on.type != "cpu":
        # torch takes pinned memory in powers of two.
        return sum(1 << (room - 1).bit_length() for room in rooms) <= usable(torch.device("cpu"))
    need = bones.need(most_in(bones.hf.dtype, dtype, asked))
    return asked.offload == "auto" and need.around + need.layer + sum(rooms) <= asked.budget


def brought(bones: Skeleton, device: torch.device, *, keep: bool = False) -> PreTrainedModel:
    """The model with all but its decoder layers in memory, and the layers streamed to `device`.

    With `keep` the layers' bytes stay in host memory once they were read.
    """
    hf = bones.hf
    kinds = {name: x.dtype for name, x in hf.state_dict().items()}
    direct = _past_cache(bones)
    for recipe in bones.around:
        views = Area(room_for(recipe.tensors)).read(recipe.tensors, direct=direct)
        for target, value in recipe.make(views, kinds, device).items():
            _set(hf, target, value)
        del views
    for tensor in (*hf.parameters(), *hf.buffers()):
        tensor._is_hf_initialized = True  # type: ignore[attr-defined]  # noqa: SLF001
    # Buffers that no checkpoint holds (rotary frequencies) are computed by transformers' own code.
    for module in hf.modules():
        for last, buffer in module._buffers.items():  # noqa: SLF001
            if buffer is not None and buffer.is_meta:
                module._buffers[last] = torch.empty_like(buffer, device=device)  # noqa: SLF001
    hf.initialize_weights()
    hf.tie_weights()
    hf.eval()
    stack: Any = hf.get_submodule(bones.layers_path)
    parts = []
    for i, layer in enumerate(bones.layers):
        slots = {}
        for target in (name for recipe in layer for name in recipe.shapes):
            module, last = hf.get_submodule(target.rpartition(".")[0]), target.rpartition(".")[2]
            away = module._parameters[last]  # noqa: SLF001
            assert away is not None
            away.requires_grad_(False)
            slots[target] = Slot(module, last, away)
        if not slots:
            raise ModelError(
                f"'{bones.name}': decoder layer {i} of {type(stack).__name__} has no weights to stream."
            )
        parts.append(Layer(slots, layer))
    Stream(bones.name, parts, device, keep=keep, direct=direct)
    return hf


def _past_cache(bones: Skeleton) -> bool:
    """Whether the files are too large for the system to keep them in memory beside the model."""
    stored = sum(recipe.bytes for layer in bones.layers for recipe in layer)
    return stored > 0.5 * free(torch.device("cpu"))


def _set(hf: PreTrainedModel, target: str, value: torch.Tensor) -> None:
    module, last = hf.get_submodule(target.rpartition(".")[0]), target.rpartition(".")[2]
    if last in module._buffers:  # noqa: SLF001
        module._buffers[last] = value  # noqa: SLF001
        return
    if not bool(torch.isfinite(value).all()):
        raise ModelError(
            f"'{target}' holds numbers that are NaN or infinite. Finite weights were expected; the checkpoint is "
            "damaged or training diverged. Nothing was audited."
        )
    module._parameters[last] = nn.Parameter(value, requires_grad=False)  # noqa: SLF001


def _kind(dtype: Any, config: Any, stored: Mapping[str, Stored]) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    said = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None)
    if isinstance(said, torch.dtype):
        return said
    sizes: dict[torch.dtype, int] = {}
    for one in stored.values():
        if one.dtype.is_floating_point:
            sizes[one.dtype] = sizes.get(one.dtype, 0) + one.bytes
    return max(sizes, key=lambda kind: sizes[kind], default=torch.float32)


def _decoder_path(hf: PreTrainedModel, name: str) -> str:
    """The list of decoder layers: of all lists that are in no other, the one that weighs most."""
    lists = [p for p, m in hf.named_modules() if isinstance(m, nn.ModuleList) and len(m)]
    outer = [p for p in lists if not any(p.startswith(f"{other}.") for other in lists)]
    if not outer:
        raise ModelError(
            f"'{name}' cannot be streamed: {type(hf).__name__} has no list of decoder layers. Load it whole "
            "(offload=None), or with device_map='auto'."
        )
    return max(outer, key=lambda p: sum(x.numel() for x in hf.get_submodule(p).parameters()))


def _inside(target: str, path: str) -> bool:
    """Whether a parameter belongs to a module inside a decoder layer, not to the layer itself."""
    return target.startswith(f"{path}.") and target.removeprefix(f"{path}.").count(".") >= 2


def _layer_of(target: str, path: str) -> int:
    return int(target.removeprefix(f"{path}.").partition(".")[0])
