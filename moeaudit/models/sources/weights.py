"""Facts about weights: their hash, and whether every number in them is finite."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from moeaudit.errors import ModelError

from ..find import split_path
from ..precision import not_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_BLOCK = 1 << 24  # bytes of a file read at a time
_KINDS = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def stored_sha256(files: Iterable[Path]) -> dict[str, str | None]:
    """SHA-256 of a checkpoint's tensors as they are stored: names, kinds, shapes and bytes.

    The same for a folder and for the hub, however the tensors are spread over files, whatever dtype
    they are loaded in and however a release of transformers arranges them in memory.
    """
    tensors: list[tuple[str, str]] = []
    for path in files:
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size))
            header.pop("__metadata__", None)
            for name, about in header.items():
                start, end = about["data_offsets"]
                stream.seek(8 + size + start)
                content = hashlib.sha256()
                for at in range(start, end, _BLOCK):
                    content.update(stream.read(min(_BLOCK, end - at)))
                tensors.append((name, _line(about["dtype"], about["shape"], content.hexdigest())))
    return _facts(tensors, "stored tensors")


def memory_sha256(model: PreTrainedModel) -> dict[str, str | None]:
    """The same hash for a model object: of what `save_pretrained` would store, in the dtype it has.

    Tensors that an offloaded model keeps elsewhere cannot be hashed; then the hash is None.
    """
    whole = model.state_dict()
    if any(tensor.is_meta for tensor in whole.values()):
        return {"weights_sha256": None, "weights_sha256_of": "not hashed: weights are offloaded"}
    try:
        return _facts(_lines(_as_stored(model, whole)), "tensors in memory, named as stored")
    except (RuntimeError, ValueError, KeyError) as error:
        # A wrapper that renames a model's modules leaves nothing that could be stored.
        not_memory(error, "hashing the weights")
        return _facts(_lines([whole]), "tensors in memory, named as there")


def _lines(parts: Iterable[dict[str, torch.Tensor]]) -> list[tuple[str, str]]:
    lines = []
    for part in parts:
        for name, tensor in part.items():
            raw = tensor.detach().cpu().contiguous()
            content = hashlib.sha256(raw.flatten().view(torch.uint8).numpy().tobytes())
            kind = _KINDS.get(raw.dtype, str(raw.dtype))
            lines.append((name, _line(kind, list(raw.shape), content.hexdigest())))
    return lines


def _as_stored(
    model: PreTrainedModel, whole: dict[str, torch.Tensor]
) -> Iterator[dict[str, torch.Tensor]]:
    """Tensors under the names of a checkpoint, one decoder layer at a time to spare memory."""
    from transformers.core_model_loading import revert_weight_conversion
    from transformers.modeling_utils import remove_tied_weights_from_state_dict

    parts: dict[object, dict[str, torch.Tensor]] = {}
    ignored = set(model._keys_to_ignore_on_save or ())  # noqa: SLF001
    for name, tensor in remove_tied_weights_from_state_dict(dict(whole), model).items():
        if name not in ignored:
            parts.setdefault(split_path(name), {})[name] = tensor
    for part in parts.values():
        yield revert_weight_conversion(model, {name: tensor.cpu() for name, tensor in part.items()})


def _line(kind: str, shape: list[int], content: str) -> str:
    return f"{kind} {shape} {content}"


def _facts(tensors: list[tuple[str, str]], what: str) -> dict[str, str | None]:
    total = hashlib.sha256()
    for name, line in sorted(tensors):
        total.update(f"{name} {line}\n".encode())
    return {"weights_sha256": total.hexdigest(), "weights_sha256_of": what}


@torch.no_grad()
def require_finite(model: PreTrainedModel, logits: torch.Tensor, name: str) -> None:
    """Raise ModelError, naming the tensor, if a weight or a logit is NaN or infinite.

    Weights that are offloaded are not searched; the logits show what they come to.
    """
    for path, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_meta or not tensor.is_floating_point():
            continue
        numbers = tensor.float() if tensor.element_size() == 1 else tensor  # float8 has no isfinite
        # A masked score may be -inf by design; a weight may not.
        bad = (
            ~torch.isfinite(numbers)
            if isinstance(tensor, torch.nn.Parameter)
            else torch.isnan(numbers)
        )
        if bool(bad.any()):
            raise ModelError(
                f"{name}: {int(bad.sum())} of {tensor.numel()} numbers in the weight '{path}' are NaN or "
                "infinite. Finite weights were expected; the checkpoint is damaged or training diverged. "
                "Nothing was audited."
            )
    # A model may forbid tokens with a logit of -inf; NaN and +inf are faults.
    if bool((logits.isnan() | (logits == torch.inf)).any()) or not bool(
        torch.isfinite(logits).any()
    ):
        kind = str(logits.dtype).removeprefix("torch.")
        raise ModelError(
            f"{name}: the model's logits on a short text are NaN or infinite in {kind} though its weights "
            "are finite. float16 overflows easily: load it with dtype='float32' or 'bfloat16'. In float32, "
            "the checkpoint is damaged."
        )
