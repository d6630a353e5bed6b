"""A table held against the analysis that was declared: what differs, and what is confirmatory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError

from ..contrast.spec import Spec
from ..families.regression import MOST_TOKENS
from ..families.regression import QUESTION as SLOPES
from .made import analyses, plain

CONFIRMATORY, EXPLORATORY = "confirmatory", "exploratory"
ACROSS = "per-expert expected harm"  # its bound is a rank correlation's
UNSAID = (
    "how the table was made (it does not say; pandas drops attrs when it joins tables, and "
    "moeaudit.stats.together does not)"
)


def mark(
    table: pd.DataFrame,
    spec: Spec,
    *,
    context: Mapping[str, Any] | None = None,
    untestable: Collection[str] = (),
) -> pd.DataFrame:
    """The table with `status`, confirmatory or exploratory, and `differs`, which says why.

    A row is confirmatory if the analysis that made it equals the declared one in everything: metrics,
    layers, outcome, question, controls, every setting of the protocol (alpha, test, smallest effect of
    interest ...), seed, number of documents, and the hashes that were frozen. `differs` names each
    difference with both values; it is null for confirmatory rows.

    Parameters
    ----------
    table
        From `contrast`, `expert_harm`, `pooled` or `regression`, or several by `together`.
    context
        The pairs that hold for this table, against those that were frozen.
    untestable
        Metrics that were declared as without a value: their rows stand, outside every family.

    Raises InputError for a table without the columns question, outcome and metric.
    """
    for column in ("question", "outcome", "metric"):
        if column not in table:
            raise InputError(f"A table to be marked needs the column {column}.")
    why = pd.Series([None] * len(table), index=table.index, dtype=object)
    made = analyses(table)
    known = {*spec.metrics, *spec.controls, *untestable}
    asked = table[["question", "outcome"]].drop_duplicates().itertuples(index=False)
    for question, outcome in asked:
        rows = (table["question"] == question) & (table["outcome"] == outcome)
        found = differences(spec, made.get((question, outcome)), question, outcome, context)
        why[rows] = "; ".join(found) or None
    odd = ~table["metric"].isin(sorted(known)) & why.isna()
    why[odd] = [f"metric: {name!r} was not declared" for name in table["metric"][odd]]
    status = np.where(why.isna(), CONFIRMATORY, EXPLORATORY)
    return table.assign(status=status, differs=why)


def differences(
    spec: Spec,
    made: Mapping[str, Any] | None,
    question: str,
    outcome: str,
    context: Mapping[str, Any] | None = None,
) -> list[str]:
    """What differs between a declared analysis and the one that made a table, each with its name."""
    out = []
    if question not in spec.questions:
        out.append(_said("question", ", ".join(spec.questions), question))
    if outcome not in spec.outcomes:
        out.append(_said("outcome", ", ".join(spec.outcomes), outcome))
    if made is None:
        return [*out, UNSAID]
    for name in ("metrics", "layers", "controls"):
        declared = list(getattr(spec, name))
        if set(declared) != set(made[name]):
            out.append(_said(name, declared, made[name]))
    frozen, used = plain(spec.protocol), dict(made["protocol"])
    if question == ACROSS:
        frozen["sesoi"], used["sesoi"] = spec.sesoi_of_ranks, made.get("sesoi")
        frozen["per"], used["per"] = "active_token", made.get("per")
    if question == SLOPES:  # each model is a family of its own; a spec has no say in max_tokens
        frozen["max_tokens"], used["max_tokens"] = MOST_TOKENS, made.get("max_tokens")
    for name in dict.fromkeys([*frozen, *used]):
        if frozen.get(name) != used.get(name):
            out.append(_said(name, frozen.get(name), used.get(name)))
    if spec.seed != made["seed"]:
        out.append(_said("seed", spec.seed, made["seed"]))
    if spec.documents is None:
        out.append("documents: their number was not declared, so that more could have been added")
    elif spec.documents != made["documents"]:
        out.append(_said("documents", spec.documents, made["documents"]))
    holds = {str(k): str(v) for k, v in (context or {}).items()}
    for kind, pairs, have in (("data", spec.data, made["data"]), ("context", spec.context, holds)):
        for name, value in pairs:
            if have.get(name) != value:
                out.append(_said(f"{kind}.{name}", value, have.get(name, "not said")))
    return out


def _said(name: str, declared: Any, used: Any) -> str:
    return f"{name}: {_short(declared)} was declared, {_short(used)} was used"


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
