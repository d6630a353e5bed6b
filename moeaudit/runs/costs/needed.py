"""Documents that decide a within-token contrast, before anything was run."""

from __future__ import annotations

import math

from moeaudit.stats import Bound
from moeaudit.stats.contrast.checks import fraction
from moeaudit.stats.sizes.power import documents_to_decide

# How tokens of a document hang together: 19 in 20 contrasts of the bundled models' audits (160 documents of
# 128 tokens) have a smaller design effect. A pilot of the model itself measures it (--pilot).
DESIGN_EFFECT = 3.0


def documents_planned(
    tokens: float | int,
    cells: int,
    *,
    sesoi: str | float | int = "0.1",
    alpha: float | int = 0.05,
    power: float | int = 0.8,
    design_effect: float | int = DESIGN_EFFECT,
) -> int | None:
    """Documents of `tokens` tokens that decide each of a family's `cells` contrasts for a bound in d_z.

    The smallest number at which an effect of `sesoi` is found with `power` and none is shown to be smaller
    with `power`, each at alpha over the size of the family (`stats.sizes.power.documents_to_decide`). None
    for a bound in nats or a share of the harm: those need the noise of a run (`documents_needed`).
    """
    bound = Bound.parse(sesoi)
    fraction(alpha, "alpha")
    if bound.unit != "d_z":
        return None
    level = alpha / max(1, cells)
    documents = 100
    error = math.sqrt(design_effect / (documents * max(1.0, tokens - 1)))
    return documents_to_decide(error, documents, bound.value, level, level, power)
