"""Where a model's numbers are, and in which kind: device, dtype, and weights kept elsewhere."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from moeaudit.errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel


def require_dtype(dtype: Any) -> torch.dtype | str:
    """The dtype to load in, or "auto" (as stored). Raises ModelError for what is none."""
    import torch

    kind = dtype if isinstance(dtype, torch.dtype) else getattr(torch, str(dtype), None)
    if dtype == "auto":
        return "auto"
    if not (isinstance(kind, torch.dtype) and kind.is_floating_point):
        raise ModelError(
            f"dtype = '{dtype}' is unknown; use 'auto', 'float32', 'bfloat16', 'float16' or 'float64'."
        )
    return kind


def require_device(device: Any) -> torch.device:
    """The device, if torch can compute on it here. Raises ModelError, naming those it can."""
    import torch

    here = _devices()
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"device = {device!r} is not the name of a device. Use one that torch sees on this machine: "
            f"{', '.join(here)}."
        ) from error
    if str(found) not in here and not (found.type in here and found.index in (None, 0)):
        raise ModelError(
            f"The model could not be moved to device '{found}': it is not on this machine, or this torch "
            f"({torch.__version__}) was built without it. Use one that torch sees: {', '.join(here)}."
        )
    return found


def _devices() -> list[str]:
    import torch

    kind = torch.accelerator.current_accelerator(check_available=True)
    if kind is None:
        return ["cpu"]
    count = torch.accelerator.device_count()
    return ["cpu", kind.type, *(f"{kind.type}:{i}" for i in range(1, count))]


def moved(hf: PreTrainedModel, name: str, device: torch.device) -> PreTrainedModel:
    """`hf` on `device`. Raises ModelError where torch cannot put it there."""
    from ..precision import not_memory

    try:
        return hf.to(device)  # type: ignore[arg-type]
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        not_memory(error, f"moving '{name}' to {device}")
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"'{name}' could not be moved to device '{device}': {first} Use 'cpu', or a device that torch "
            "sees on this machine and that computes in the model's dtype."
        ) from error


def input_device(hf: nn.Module) -> torch.device:
    """Where token ids go: the embedding's device, or where its weights are brought when it runs."""
    import torch

    embedding = hf.get_input_embeddings()  # type: ignore[operator]
    for hook in loading_hooks(embedding):
        return torch.device(hook.execution_device)
    tensors = chain(embedding.parameters(), hf.parameters(), hf.buffers())
    return next((t.device for t in tensors if not t.is_meta), torch.device("cpu"))


def loading_hooks(module: nn.Module) -> list[Any]:
    """accelerate's hooks that bring this module's weights when it is called."""
    hook = getattr(module, "_hf_hook", None)
    hooks = getattr(hook, "hooks", (hook,))
    return [each for each in hooks if getattr(each, "execution_device", None) is not None]
