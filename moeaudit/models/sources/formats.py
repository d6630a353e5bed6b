"""Quantised checkpoints: which format one is in, and which are dequantised because experts must be called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..placement.asked import Asked


def stored_as(config: Any, asked: Asked) -> str | None:
    """The method a checkpoint is quantised with, or is to be; None for plain weights."""
    given = asked.quantization_config or getattr(config, "quantization_config", None)
    if given is None:
        return None
    method = given.get("quant_method") if isinstance(given, dict) else given.quant_method
    return str(getattr(method, "value", method))


def dequantised(config: Any, asked: Asked) -> dict[str, Any]:
    """Options by which native MXFP4 (gpt-oss) is widened: its experts take no router's answer.

    FP8 keeps the contract and stays as it is where the device runs it; transformers widens it elsewhere.
    """
    if asked.quantization_config is None and stored_as(config, asked) == "mxfp4":
        from transformers.utils.quantization_config import Mxfp4Config

        return {"quantization_config": Mxfp4Config(dequantize=True)}
    return {}
