"""The verdicts of `expert_harm`: the one place where they are formed.

A correlation across experts is a claim about experts, so the p of the table permutes them; but each
expert's harm is an average over documents, and other text of the same kind could order the experts
otherwise. A claim needs both. Two sentences are told apart:

    documents alone    for these experts, more text of this kind would not make the correlation vanish
    and experts        nor would a score without knowledge rank so many experts so well: "experts of
                       this layer"

How large it is, with noise taken off, is held against the bound by tests of their own (`size.Size`), corrected
over the family: for the layer with experts as a sample, for these experts by documents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..contrast.protocol import Protocol
from ..families import families
from ..families.maxt import step_down
from ..sizes import equivalence


def document_columns(
    p: np.ndarray, z: np.ndarray, deviations: list[np.ndarray]
) -> dict[str, np.ndarray]:
    """`p_documents_maxt` of a family: step-down over the resamplings that its cells share
    (Romano & Wolf 2005), each cell's deviations in its own standard errors."""
    return {"p_documents": p, "p_documents_maxt": step_down(z, deviations)}


def claims(
    part: pd.DataFrame, columns: Mapping[str, Any], sesoi: float | int, recipe: Protocol
) -> dict[str, list[Any]]:
    """`verdict` (documents and experts), `verdict_these_experts` (documents) and `supports`.

    `part` holds the rows of a family, `columns` what was corrected over it. The bound is one of
    `rho_true`, and so are the tests against it. A protocol that does not ask for experts gets the
    answer by documents; one without a correction of equivalence, no judgement of sizes.
    """
    documents = np.asarray(
        columns["p_documents_maxt"]
        if recipe.decision == "maxt"
        else families.adjust(np.asarray(columns["p_documents"], float), recipe.decision)
    )
    experts = np.asarray(columns[f"p_{recipe.decision}"], float)
    bound = None if recipe.equivalence is None else sesoi
    rho, low, high = (np.asarray(part[c], float) for c in ("rho", "rho_true_low", "rho_true_high"))
    few = part["too_few"].notna().tolist()

    def graded(i: int, small: str, beyond: str, p_experts: float) -> tuple[str, str | None]:
        return equivalence.graded(
            float(documents[i]), float(columns[small][i]), rho[i], low[i], high[i], bound=bound,
            alpha=recipe.alpha, p_experts=p_experts, p_beyond=float(columns[beyond][i]), few=few[i],
        )  # fmt: skip

    these = [graded(i, "p_equivalence", "p_beyond_these", float("nan")) for i in range(len(rho))]
    said = these
    if recipe.experts:
        said = [
            graded(i, "p_equivalence_crossed", "p_beyond", float(p)) for i, p in enumerate(experts)
        ]
    return {
        "verdict": [verdict for verdict, _ in said],
        "verdict_these_experts": [verdict for verdict, _ in these],
        "supports": [whom for _, whom in said],
    }
