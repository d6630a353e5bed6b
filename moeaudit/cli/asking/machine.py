"""What `moeaudit doctor` finds out: packages, devices, memory, disk, and the plan of an audit on them."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import webbrowser
from importlib import metadata
from pathlib import Path
from typing import Any

# What comes with an extra (`pip install moeaudit[ray]`), by the package that shows whether it is there.
EXTRAS = {
    "ray": "ray",
    "notebooks": "jupyterlab",
    "analyses": "scikit-learn",
    "calibration-peers": "relplot",
    "docs": "mkdocs-material",
}
WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
REAL = ("allenai/OLMoE-1B-7B-0924", "Qwen/Qwen1.5-MoE-A2.7B", "deepseek-ai/DeepSeek-V2-Lite")
WHOLE, STREAMED, NOT = "whole in memory", "streamed from its files", "does not fit in what is free"


def found() -> dict[str, Any]:
    """Everything, as plain values. Bytes are free now; others may use them in a moment."""
    import torch

    from moeaudit.models.bundled import bundled_models
    from moeaudit.runs.working.provenance import code_revision, package_versions

    devices = _devices()
    notes: list[str] = []
    audits = [
        _audit(model, device["name"], notes)
        for device in devices
        for model in (*bundled_models(), *REAL)
        if device is devices[0] or model in REAL
    ]
    return {
        "packages": package_versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "code": code_revision(),
        "extras": {extra: _version(package) for extra, package in EXTRAS.items()},
        "devices": devices,
        "threads": torch.get_num_threads(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "waiting": {name: os.environ.get(name) for name in WAITING},
        "disk": _disk(),
        "browser": _browser(),
        "bundled": bundled_models(),
        "audits": audits,
        "notes": list(dict.fromkeys(notes)),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> list[dict[str, Any]]:
    """The host, then every accelerator that torch sees."""
    import torch

    from moeaudit.runs.costs.machine import free_memory

    out = [{"name": "cpu", "says": platform.machine(), "free_bytes": int(free_memory("cpu"))}]
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        name = f"cuda:{i}"
        says = f"{torch.cuda.get_device_name(i)}, CUDA {torch.version.cuda}"
        out.append({"name": name, "says": says, "free_bytes": int(free_memory(name))})
    return out


def _disk() -> dict[str, int]:
    """Free bytes where runs, temporary files and the hub's cache go; a place once for each disk."""
    from huggingface_hub.constants import HF_HUB_CACHE

    out: dict[str, int] = {}
    seen: set[int] = set()
    for place in (Path.cwd(), Path(tempfile.gettempdir()), Path(HF_HUB_CACHE)):
        there = next(each for each in (place, *place.parents) if each.is_dir())
        if (disk := there.stat().st_dev) not in seen:
            seen.add(disk)
            out[str(place)] = shutil.disk_usage(there).free
    return out


def _browser() -> str | None:
    try:
        return str(getattr(webbrowser.get(), "name", "found"))
    except webbrowser.Error:
        return None


def _audit(model: str, device: str, notes: list[str]) -> dict[str, Any]:
    """How an audit of `model` would hold its weights on `device`, by the plan that `moeaudit plan` makes."""
    from moeaudit.errors import MoeAuditError
    from moeaudit.runs.costs import Machine, cost
    from moeaudit.runs.costs.calibrate import RESERVE
    from moeaudit.runs.costs.machine import free_memory

    host = 0.0 if device == "cpu" else float(free_memory("cpu"))
    # Only memory is asked for, so what it computes and reads at a second is of no matter here.
    here = Machine("here", device, 1.0, RESERVE * float(free_memory(device)), 1.0, host=host)
    row: dict[str, Any] = {"model": model, "device": device}
    try:
        memory = cost(model, device=device, machine=here).memory
    except MoeAuditError as why:
        notes.append(f"{model} could not be planned: {why}")
        return {**row, "how": "unknown", "weights_bytes": None, "least_bytes": None}
    how = NOT if not memory.fits else STREAMED if memory.streams else WHOLE
    return {**row, "how": how, "weights_bytes": memory.weights, "least_bytes": memory.least}
