"""Weights that are kept elsewhere and brought when they are needed: by accelerate, by a stream, by a hook."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn

from moeaudit.errors import ModelError

from .stream import stream_of


def weights_elsewhere(hf: nn.Module) -> tuple[list[str], list[str]]:
    """Names of weights that are not in memory: those a hook brings in time, and those nothing does.

    A hook of the module itself or of one that holds it may bring them (accelerate's `device_map`
    with layers on "cpu" or "disk"; a stream; a hook before the forward that is somebody's own).
    """
    modules = dict(hf.named_modules())
    brought, missing = [], []
    for name, tensor in (*hf.named_parameters(), *hf.named_buffers()):
        if not tensor.is_meta:
            continue
        holders, path = [], name.rpartition(".")[0]
        while path:
            holders.append(modules[path])
            path = path.rpartition(".")[0]
        hooked = any(hasattr(m, "_hf_hook") or m._forward_pre_hooks for m in (*holders, hf))  # noqa: SLF001
        (brought if hooked else missing).append(name)
    return brought, missing


@contextmanager
def weights_here(module: nn.Module) -> Iterator[None]:
    """Inside, weights that accelerate or a stream keeps elsewhere for `module` are in memory, to be read."""
    with ExitStack() as stack:
        streamed = stream_of(module)
        if streamed is not None:
            stack.enter_context(streamed[0].holding(streamed[1]))
        elif any(p.is_meta for p in module.parameters()) and hasattr(module, "_hf_hook"):
            from accelerate.utils import align_module_device

            for part in module.modules():
                stack.enter_context(align_module_device(part))
        yield


def require_in_memory(hf: nn.Module, name: str, doing: str) -> None:
    """Raise ModelError where `doing` needs all weights at once, and layers are streamed."""
    streamed = stream_of(hf)
    if streamed is not None:
        raise ModelError(
            f"{doing} needs all weights of {name} in memory at once, and its {len(streamed[0].layers)} decoder "
            "layers are streamed. Load it whole, with offload=None, on a machine or device that holds it."
        )
