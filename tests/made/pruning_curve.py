"""A pruning curve from made losses: no model is run."""

from __future__ import annotations

import numpy as np
import pandas as pd

from moeaudit.pruning.evaluate import DocumentSums
from moeaudit.pruning.result import PruneCurve
from moeaudit.pruning.tables import Resampled, cost_table


def curve_of(losses: dict[str, float], draws: int = 5, keep=(0.75, 0.5), documents: int = 40):
    """`losses`: what each criterion adds at the first share, nats a token; twice as much at the next."""
    rng = np.random.default_rng(3)
    names = [*losses] + ["random"] * draws
    number = [-1] * len(losses) + list(range(draws))
    level = np.array([*losses.values(), *(0.2 + 0.02 * rng.normal(size=draws))])
    every = np.concatenate([level * (i + 1) for i in range(len(keep))])
    keys = pd.DataFrame(
        {
            "criterion": names * len(keep),
            "draw": number * len(keep),
            "scope": "layer",
            "depth": "all",
            "keep": np.repeat(keep, len(names)),
        }
    )
    count = np.full(documents, 100.0)
    clean = 3.0 * count
    noise = 0.01 * rng.normal(size=(len(every), documents))
    nll = (3.0 + every[:, None] + noise) * count
    sums = DocumentSums(np.arange(documents), count, clean, nll, np.abs(nll - clean))
    boot = Resampled.of(sums, 200, 0, 0.95)
    banned = tuple({0: (i % 4,)} for i in range(len(every)))
    table = cost_table(keys, banned, boot)
    return PruneCurve("tiny-made-up", table, pd.DataFrame(), boot, banned, {0: 8}, 0.01, 12)
