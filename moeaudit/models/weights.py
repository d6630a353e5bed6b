"""Facts about weights: their hash, and whether every number in them is finite."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from moeaudit.errors import ModelError

if TYPE_CHECKING:
    from torch import nn


def files_sha256(paths: list[Path]) -> str:
    """SHA-256 over the checkpoint files' own hashes, in name order."""
    total = hashlib.sha256()
    for path in sorted(paths, key=lambda p: p.name):
        with path.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def tensors_sha256(model: nn.Module) -> dict[str, str | None]:
    """SHA-256 over a model object's tensors by name, for models that came from no file.

    Tensors that an offloaded model keeps elsewhere cannot be hashed; then the hash is None.
    """
    if any(tensor.device.type == "meta" for tensor in model.state_dict().values()):
        return {"weights_sha256": None, "weights_sha256_of": "not hashed: weights are offloaded"}
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(name.encode())
        total.update(
            tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    return {"weights_sha256": total.hexdigest(), "weights_sha256_of": "tensors in memory"}


@torch.no_grad()
def require_finite(model: nn.Module, logits: torch.Tensor, name: str) -> None:
    """Raise ModelError, naming the tensor, if a weight or a logit is NaN or infinite."""
    for path, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.device.type == "meta" or not tensor.is_floating_point():
            continue
        # A masked score may be -inf by design; a weight may not.
        bad = (
            ~torch.isfinite(tensor)
            if isinstance(tensor, torch.nn.Parameter)
            else torch.isnan(tensor)
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
