"""Quantised checkpoints: which format one is in, which are dequantised, and what to do where one is not run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moeaudit.errors import ModelError

if TYPE_CHECKING:
    from ..placement.asked import Asked

# What helps where a method is not run, beside what transformers says is missing.
_INSTEAD = {
    "bitsandbytes": "bitsandbytes leaves stacked experts as they are, so little is saved: take the same model in "
    "bfloat16, which is streamed where it does not fit.",
    "gptq": "transformers' quantiser of GPTQ files names no stacked experts. Dequantise the checkpoint with the tool "
    "that wrote it, or take the same model in bfloat16, which is streamed where it does not fit.",
    "compressed-tensors": "It is decompressed while it is loaded, so memory is that of bfloat16: install "
    "compressed-tensors if it is missing (with it, stacked experts are unpacked from pack-quantized and "
    "float-quantized checkpoints alone), or take the same model in bfloat16.",
}
_INSTEAD["awq"] = _INSTEAD["gptq"].replace("GPTQ", "AWQ")
_OTHERWISE = (
    "Install what is named, use a device that runs it, or take the same model in bfloat16, which is streamed "
    "where it does not fit."
)


def stored_as(config: Any, asked: Asked) -> str | None:
    """The method a checkpoint is quantised with, or is to be; None for plain weights."""
    given = asked.quantization_config or getattr(config, "quantization_config", None)
    if given is None:
        return None
    method = given.get("quant_method") if isinstance(given, dict) else given.quant_method
    return str(getattr(method, "value", method) or "a method that it does not name")


def require_known(config: Any, asked: Asked, name: str) -> None:
    """Raise ModelError for a method that this transformers does not know: it would take packed numbers for weights."""
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    method = stored_as(config, asked)
    known = sorted({*AUTO_QUANTIZATION_CONFIG_MAPPING, "bitsandbytes"})
    if method is not None and asked.quantization_config is None and method not in known:
        raise ModelError(
            f"'{name}' says in its config.json that it is quantised by {method!r}, which this transformers does not "
            f"know (it knows {', '.join(known)}). Take the same model in bfloat16; if its weights are plain, "
            "take 'quantization_config' out of config.json."
        )


def not_run(name: str, method: str, first: str) -> ModelError:
    """A quantised checkpoint that could not be loaded: `first` is what transformers says."""
    return ModelError(
        f"'{name}' could not be loaded: {first} It is quantised ({method}), which this machine or this installation "
        f"does not run. {_INSTEAD.get(method, _OTHERWISE)}"
    )


def dequantised(config: Any, asked: Asked) -> dict[str, Any]:
    """Options by which packed weights are widened while they are loaded.

    Native MXFP4 (gpt-oss), whose experts take no router's answer, and compressed-tensors, which transformers else
    unpacks in the first forward and only in plain layers. FP8 keeps the contract and stays as it is where the device
    runs it; transformers widens it elsewhere.
    """
    from transformers.utils.quantization_config import CompressedTensorsConfig, Mxfp4Config

    kinds = {"mxfp4": Mxfp4Config, "compressed-tensors": CompressedTensorsConfig}
    kind = kinds.get(stored_as(config, asked) or "")
    if kind is None or asked.quantization_config is not None:
        return {}
    return {"quantization_config": kind(dequantize=True)}
