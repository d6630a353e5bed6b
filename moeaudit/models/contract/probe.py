"""What a model really does with a few tokens: who is called, with what. Nothing is assumed."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, cast

import torch

from ..placement import input_device
from .call import ExpertsCall, Probe, slot_contributions

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def probe_ids(model: PreTrainedModel, n_tokens: int) -> torch.Tensor:
    """Ordinary token ids, spread over the lower vocabulary where no special token usually sits."""
    vocab = cast("torch.Tensor", model.get_input_embeddings().weight).shape[0]
    low, high = min(16, vocab // 4), min(vocab, 1000)
    step = max(1, (high - low) // (n_tokens + 1))
    ids = low + (torch.arange(n_tokens) * step * 7 + 3) % max(1, high - low)
    return ids[None].to(input_device(model))


def as_experts_call(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """`(hidden, index, weight)` if the arguments are the shared experts call, else None."""
    given = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
    if len(given) != 3:
        return None
    hidden, index, weight = given
    fits = (
        hidden.is_floating_point()
        and not index.is_floating_point()
        and index.dtype != torch.bool
        and weight.is_floating_point()
        and index.dim() == weight.dim() == 2
        and index.shape == weight.shape
        and hidden.dim() == 2
        and hidden.shape[0] == index.shape[0]
    )
    return (hidden, index, weight) if fits else None


@torch.no_grad()
def run_probe(model: PreTrainedModel, n_tokens: int = 11) -> Probe:
    """Run one short document through `model` and write down every experts-like call."""
    probe, summing = Probe(n_tokens, torch.empty(0)), False

    def record(path: str):
        def hook(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
            nonlocal summing
            if summing:
                return
            probe.called.add(path)
            found = as_experts_call(args, kwargs)
            if found is not None and isinstance(output, torch.Tensor):
                summing = True
                try:
                    slots = slot_contributions(module, *found[:2], torch.ones_like(found[2]))
                except Exception as error:  # noqa: BLE001  # told where the layer is named
                    slots = error
                finally:
                    summing = False
                probe.calls.append(ExpertsCall(path, module, *found, output, slots))
            tensors = output if isinstance(output, tuple) else (output,)
            if all(isinstance(value, torch.Tensor) for value in tensors):
                probe.outputs[path] = tensors

        return hook

    with ExitStack() as stack:
        for path, module in model.named_modules():
            if path:
                handle = module.register_forward_hook(record(path), with_kwargs=True)
                stack.callback(handle.remove)
        output = model(input_ids=probe_ids(model, n_tokens), use_cache=False)
    probe.logits = output.logits
    return probe
