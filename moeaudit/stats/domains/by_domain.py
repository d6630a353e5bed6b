"""`by_domain`: both questions of an audit asked in each domain, and across domains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from moeaudit.errors import one_of
from moeaudit.frames import Frame
from moeaudit.frames.waiting import counting

from ..contrast.checks import require_per_expert
from ..contrast.contrast import QUESTION as WITHIN
from ..contrast.protocol import Protocol, get_protocol
from ..contrast.slots import Census
from ..nullable import nullable
from ..ranking.table import QUESTION as ACROSS
from .across_experts import harm_of, ranking_rows
from .labels import Labels
from .values import MEASURED, Values
from .within import within_rows

CONTROLS = ("gate_weight", "heldout_causal")
COLUMNS = [
    *("question", "outcome", "metric", "role", "layer", "domain"),
    *("n", "n_documents", "n_experts", "estimate", "se", "dof", "low", "high"),
    *("ceiling", "ceiling_low", "ceiling_high"),
    *("whole", "without", *MEASURED, "reason"),
]
N_BOOT = 400


def by_domain(
    effects: Any,
    metrics: Any,
    domains: Any,
    *,
    outcome: str = "delta_nll",
    measured: Any = None,
    controls: Sequence[str] = CONTROLS,
    layers: Sequence[int] | None = None,
    protocol: str | Protocol = "moeaudit",
    n_boot: int = N_BOOT,
    seed: int = 0,
) -> Frame:
    """The within-token contrast and the ranking of experts in every domain of the text.

    Parameters
    ----------
    effects, metrics, outcome, layers, protocol
        As for `contrast`; effects are read once, and a few bytes a row are held.
    domains
        The domain of each document: a mapping, or a table with `document` and `domain`, such as the
        `tokens` of a run.
    measured
        Metrics measured by domain (a run's `experts_by_domain`): measured ("elsewhere": on documents of
        all other domains; "here": on other documents of the domain itself), domain, layer, expert,
        metric, value. None: those columns are null.
    controls
        Of "gate_weight" (within tokens only) and "heldout_causal". The held-out row of the ranking is
        an expert's mean outcome in all other domains against that in the domain: whether the effect is
        a property of an expert at all.

    Returns
    -------
    One row per question, metric (or control), layer and domain.

    `estimate` is d_z (within tokens, in the domain's own deviation) or Spearman's rho across experts,
    with `se` and limits by the documents of the domain: the jackknife with limits adjusted for tails, or the
    bootstrap widened for the noise it adds; `ceiling` is the square root of the reliability of the
    domain's harm, with limits by its documents (`ceiling_low`, `ceiling_high`; of few documents they are wide, and
    an estimate may lie above its ceiling). `whole` is the same over all domains, `without` over all but this
    one. `elsewhere` and `here` are the domain's estimate by metrics that were measured there. Null numbers have a
    `reason`: a domain needs 6 documents. `across_domains` puts the rows of a cell together.

    Raises
    ------
    InputError
        For what `contrast` refuses, documents without a domain, and unknown controls.
    """
    recipe = get_protocol(protocol)
    require_per_expert(effects)
    controls = tuple(one_of(c, CONTROLS, "control by domain") for c in dict.fromkeys(controls))
    rows: list[dict[str, Any]] = []
    census = Census(effects, outcome, layers)
    labels = Labels.of(domains, census.documents)
    known = Values.of(metrics, measured, labels)
    ranked: list[dict[str, Any]] = []
    with counting(None, "contrasts by domain", len(census.layers), "layers") as tell:
        for layer in census.layers:
            slots = census.slots(layer)
            values = known.layer(layer, int(slots.expert.max()) + 1)
            found = within_rows(
                slots, known.names, values, controls, labels,
                level=recipe.level, seed=seed, n_folds=recipe.n_folds,
            )  # fmt: skip
            rows += [{"question": WITHIN, **row} for row in found]
            found = ranking_rows(
                harm_of(slots), known.names, values, labels,
                level=recipe.level, n_boot=n_boot, seed=seed, oracle="heldout_causal" in controls,
            )  # fmt: skip
            ranked += [{"question": ACROSS, **row} for row in found]
            tell(1)
    out: Frame = pd.DataFrame([*rows, *ranked], columns=[c for c in COLUMNS if c != "outcome"])
    out.insert(1, "outcome", outcome)
    floats = ["estimate", "se", "dof", "low", "high", "ceiling", "ceiling_low", "ceiling_high"]
    floats += ["whole", "without", *MEASURED]
    out[floats] = out[floats].astype("float64")
    return nullable(out, ("n", "n_documents", "n_experts"), ("reason",))
