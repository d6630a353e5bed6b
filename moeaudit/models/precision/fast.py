"""Kinds of half precision that a device computes fast, as torch or the processor says."""

from __future__ import annotations

from typing import Any

import torch

HALVES = (torch.bfloat16, torch.float16)
# What a processor is asked for by torch, by kind: products in this kind, not conversions of it.
_OF_CPU = {
    torch.bfloat16: ("avx512_bf16", "amx_bf16", "avx10_2", "arm_bf16", "bf16"),
    torch.float16: ("avx512_fp16", "amx_fp16", "avx10_2", "arm_fp16_arith", "fp16"),
}


def fast_halves(device: torch.device) -> list[torch.dtype]:
    """Half-precision kinds that `device` has units for; both where nobody says, since they are timed anyway."""
    if device.type == "cpu":
        return [kind for kind in HALVES if _on_cpu(kind)]
    if device.type == "cuda":
        bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        float16 = torch.cuda.get_device_capability(device) >= (7, 0)
        return [kind for kind, has in zip(HALVES, (bfloat16, float16)) if has]
    return list(HALVES)


def _on_cpu(kind: torch.dtype) -> bool:
    asked: Any = getattr(torch.cpu, "get_capabilities", None)
    if asked is not None:
        has = asked()
        return any(has.get(name, False) for name in _OF_CPU[kind])
    older: Any = getattr(torch.cpu, f"_is_{_OF_CPU[kind][0]}_supported", None)
    return older is not None and bool(older())
