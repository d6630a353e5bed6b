"""How far apart a layer's experts are: in their weights, pair by pair."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pandas as pd

from moeaudit.errors import ModelError


def expert_distances(model: Any) -> pd.DataFrame:
    """One row for each pair of experts of a layer: `layer, a, b, distance`.

    `distance` is the Frobenius norm of the difference of all their matrices over the root mean square of the two
    norms: 0 for copies, about 1.41 for independent ones of equal norm. `model`: a transformers model whose experts are
    fused tensors `gate_up_proj` and `down_proj`, or a `moeaudit.Model` of one.

    Raises ModelError if no layer holds such experts.
    """
    hf = getattr(model, "hf", model)
    rows = []
    for name, module in hf.named_modules():
        if not (hasattr(module, "gate_up_proj") and getattr(module.gate_up_proj, "ndim", 0) == 3):
            continue
        both = (module.gate_up_proj.detach().double(), module.down_proj.detach().double())
        square = sum(each.flatten(1).square().sum(1) for each in both)
        layer = next(int(part) for part in name.split(".") if part.isdigit())
        for a, b in combinations(range(len(square)), 2):
            apart = sum((each[a] - each[b]).square().sum() for each in both) ** 0.5
            scale = ((square[a] + square[b]) / 2) ** 0.5
            rows.append((layer, a, b, float(apart / scale) if scale else 0.0))
    if not rows:
        raise ModelError(
            f"{type(hf).__name__} holds no fused experts (gate_up_proj of three dimensions), so there are none "
            "to compare."
        )
    return pd.DataFrame(rows, columns=["layer", "a", "b", "distance"])
