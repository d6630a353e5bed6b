"""Tiny checkpoints in quantised formats, written tensor by tensor as the formats define them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from . import architectures, tiny_moe

BLOCK = 8
# E2M1: the sixteen values of four bits (OCP Microscaling Formats specification 1.0, table 5).
FP4 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
FP4 = torch.cat([FP4, -FP4])


def fp8(folder: Path, name: str = "qwen2_moe") -> dict[str, torch.Tensor]:
    """Matrices called ..._proj in float8 with a scale for each block; returns what they stand for, by name."""
    tiny_moe.build(name).bfloat16().save_pretrained(folder)
    stored, meant = {}, {}
    for key, value in load_file(folder / "model.safetensors").items():
        if not key.endswith("_proj.weight"):
            stored[key] = value
            continue
        rows, columns = (n // BLOCK for n in value.shape)
        blocks = value.float().view(rows, BLOCK, columns, BLOCK)
        scale = blocks.abs().amax((1, 3)).clamp_min(1e-12) / 448  # the largest number of e4m3
        small = (blocks / scale[:, None, :, None]).to(torch.float8_e4m3fn)
        stored[key], stored[f"{key}_scale_inv"] = small.view(value.shape), scale
        meant[key] = (small.float() * scale[:, None, :, None]).view(value.shape)
    _write(folder, stored, quant_method="fp8", weight_block_size=[BLOCK, BLOCK])
    return meant


def mxfp4(folder: Path) -> dict[str, torch.Tensor]:
    """gpt-oss with its experts in four bits, 32 numbers a scale; returns what they stand for, by name."""
    built = architectures.BY_NAME["gpt_oss"].build(hidden_size=64, intermediate_size=32)
    built.bfloat16().save_pretrained(folder)
    stored, meant = {}, {}
    for key, value in load_file(folder / "model.safetensors").items():
        if not key.endswith(("gate_up_proj", "down_proj")):
            stored[key] = value
            continue
        turned = value.float().transpose(1, 2)  # (experts, out, in), as the format has it
        groups = turned.unflatten(-1, (-1, 32))
        power = (groups.abs().amax(-1).clamp_min(1e-12) / 6).log2().ceil()
        near = (groups / power.exp2()[..., None])[..., None] - FP4
        code = near.abs().argmin(-1).to(torch.uint8)  # (experts, out, groups, 32)
        stored[f"{key}_blocks"] = (code[..., ::2] | code[..., 1::2] << 4).contiguous()
        stored[f"{key}_scales"] = (power + 127).to(torch.uint8)
        whole = (FP4[code.long()] * power.exp2()[..., None]).flatten(-2)
        meant[key] = whole.transpose(1, 2)
    _write(folder, stored, quant_method="mxfp4")
    return meant


def compressed(folder: Path, scheme: str, name: str = "qwen2_moe") -> dict[str, torch.Tensor]:
    """Matrices called ..._proj as compressed-tensors writes them, a scale for each row or eight columns of it.

    `scheme` is "int4" or "int8" (packed), "int8-plain" or "fp8"; returns what they stand for, by name.
    """
    tiny_moe.build(name).bfloat16().save_pretrained(folder)
    stored, meant = {}, {}
    bits = 4 if scheme == "int4" else 8
    for key, value in load_file(folder / "model.safetensors").items():
        if not key.endswith("_proj.weight"):
            stored[key] = value
            continue
        groups = value.float().unflatten(1, (-1, BLOCK if scheme == "int4" else value.shape[1]))
        most = 448.0 if scheme == "fp8" else 2.0 ** (bits - 1) - 1
        scale = (groups.abs().amax(-1).clamp_min(1e-9) / most).bfloat16()  # (rows, groups)
        whole = groups / scale.float()[..., None]
        if scheme == "fp8":
            small = whole.flatten(1).to(torch.float8_e4m3fn)
        else:
            small = whole.round().clamp(-most - 1, most).flatten(1).to(torch.int8)
        meant[key] = (small.float().view(groups.shape) * scale.float()[..., None]).flatten(1)
        if scheme in ("int4", "int8"):
            stored[f"{key}_packed"] = _packed(small, bits)
            stored[f"{key}_shape"] = torch.tensor(value.shape)
        else:
            stored[key] = small
        stored[f"{key}_scale"] = scale
    weights = {
        "num_bits": bits,
        "type": "float" if scheme == "fp8" else "int",
        "symmetric": True,
        "strategy": "group" if scheme == "int4" else "channel",
        "group_size": BLOCK if scheme == "int4" else None,
    }
    form = {"int4": "pack-quantized", "int8": "pack-quantized", "int8-plain": "int-quantized"}
    form = form.get(scheme, "float-quantized")
    _write(
        folder,
        stored,
        quant_method="compressed-tensors",
        format=form,
        quantization_status="compressed",
        ignore=["lm_head"],
        config_groups={"group_0": {"targets": ["Linear"], "weights": weights}},
    )
    return meant


def _packed(small: torch.Tensor, bits: int) -> torch.Tensor:
    """Whole numbers beside each other in int32, the first in the lowest bits, from 0 for the least."""
    each = 32 // bits
    code = (small.long() + 2 ** (bits - 1)).unflatten(1, (-1, each))
    whole = (code << (bits * torch.arange(each))).sum(-1)
    return torch.where(whole >= 2**31, whole - 2**32, whole).int()


def declared(folder: Path, **config: Any) -> Path:
    """A plain checkpoint whose configuration says that it is quantised."""
    tiny_moe.build("olmoe").bfloat16().save_pretrained(folder)
    _write(folder, load_file(folder / "model.safetensors"), **config)
    return folder


def _write(folder: Path, tensors: dict[str, torch.Tensor], **quantization: Any) -> None:
    save_file(
        {name: x.contiguous() for name, x in tensors.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"quantization_config": quantization}))
