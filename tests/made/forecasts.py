"""A table of models that were pruned, with every column a forecast needs; no model is run."""

from __future__ import annotations

import numpy as np
import pandas as pd

from moeaudit.pruning.forecast.known import record_of
from moeaudit.pruning.forecast.signs import SIGNS


def table(effect: float = 0.0, recipes: int = 10, seeds: int = 3, seed: int = 0) -> pd.DataFrame:
    """Losses of a tenth of a nat; with an effect, exp(effect * harm) times that. Signs are standard normal."""
    rng = np.random.default_rng(seed)
    name = np.repeat([f"recipe {i}" for i in range(recipes)], seeds)
    own = np.repeat(rng.normal(size=(recipes, len(SIGNS))), seeds, 0)
    frame = pd.DataFrame(own + 0.2 * rng.normal(size=own.shape), columns=list(SIGNS))
    noise = np.repeat(rng.normal(size=recipes) * 0.3, seeds) + 0.1 * rng.normal(size=len(name))
    lost = 0.1 * np.exp(effect * frame["harm"] + noise)
    frame = frame.assign(recipe=name, seed=np.tile(np.arange(seeds), recipes))
    return frame.assign(lost_25=lost / 3, lost_50=lost, parameters=1_250_000)


def record(content: bytes) -> dict[str, object]:
    """What stands beside such a table of these bytes."""
    return record_of(
        content, criterion="reap", quick=False, documents={"signs": 16}, tokens={"signs": 48}
    )
