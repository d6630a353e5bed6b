"""Weights that are kept elsewhere and brought when they are needed: by accelerate, by a stream, by a hook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from moeaudit.errors import ModelError

from .stream import stream_of, streams_itself


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


def follow(twin: nn.Module, original: nn.Module) -> None:
    """Have a copy of a module tree, which shares the weights of `original`, share those that are streamed as well.

    A stream puts weights into the modules it knows, and takes them away again: the copy's would stay on meta. Each part
    of the copy now has its layer brought when it is called, and borrows the weights for the call.
    """
    for part, source in zip(twin.modules(), original.modules(), strict=True):
        streamed = streams_itself(source)
        if streamed is None:
            continue
        stream, layer = streamed
        borrow, give_back = _lent(part, source, lambda s=stream, i=layer: s.bring(i))
        part.register_forward_pre_hook(borrow)
        part.register_forward_hook(give_back, always_call=True)


def _lent(
    part: nn.Module, source: nn.Module, bring: Callable[[], None]
) -> tuple[Callable[..., None], Callable[..., None]]:
    away = dict(part._parameters)  # noqa: SLF001

    def borrow(module: nn.Module, args: Any) -> None:  # noqa: ARG001
        bring()
        module._parameters.update(source._parameters)  # noqa: SLF001

    def give_back(module: nn.Module, args: Any, output: Any) -> None:  # noqa: ARG001
        module._parameters.update(away)  # noqa: SLF001

    return borrow, give_back
