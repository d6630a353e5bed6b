"""Trained classifiers kept in the pool's folder, so that what was trained once is read afterwards."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moeaudit.store.files import replacing

from .robust_training import RobustSettings
from .soft_moe import ClassifierMoE
from .tasks import Labelled, Task

FOLDER = "calibrated-moe"
MAKING = 1  # raised when the same settings come to train to other numbers


def place_of(
    folder: Path, task: Task, routing: str, settings: RobustSettings, seed: int, read: Labelled
) -> Path:
    """The file of a classifier, named by what it is and the hash of all that decides its weights, text included."""
    digest = hashlib.sha256()
    said: dict[str, Any] = {**asdict(settings), "task": task.name, "width": task.width}
    said |= {"classes": task.classes, "routing": routing, "seed": seed, "making": MAKING}
    digest.update(json.dumps(said, sort_keys=True).encode())
    for part in read:
        digest.update(part.contiguous().numpy().tobytes())
    name = f"{task.name}-{routing}-{settings.objective}--{seed}--{digest.hexdigest()[:10]}.pt"
    return folder / FOLDER / name


def weights_of(place: Path) -> dict[str, Tensor] | None:
    """The weights that are kept there, None without."""
    return torch.load(place, weights_only=True) if place.exists() else None


def keep(place: Path, model: ClassifierMoE) -> None:
    with replacing(place) as temporary:
        torch.save(model.state_dict(), temporary)
