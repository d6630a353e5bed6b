"""The table of `expert_harm`: corrections over families, equivalence, verdicts, column order."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
import scipy

from ..contrast.protocol import Protocol
from ..contrast.table import finish
from ..families import families, selected
from ..families.maxt import step_down
from ..sizes import equivalence
from .attenuation import Attenuation
from .claims import claims, document_columns
from .power import PLAN, critical_of, plan
from .row import Ranked
from .size import size_columns

QUESTION = "per-expert expected harm"

COLUMNS = [
    *("question", "outcome", "per", "metric", "role", "layer"),
    *("n", "n_documents", "n_experts", "n_dropped"),
    *("rho", "rho_low", "rho_high", "rho_analytic_low", "rho_analytic_high"),
    *("rho_true", "rho_true_low", "rho_true_high"),
    *("rho_true_crossed_low", "rho_true_crossed_high", "no_crossed"),
    *("tau", "tau_low", "tau_high", "tau_analytic_low", "tau_analytic_high"),
    *("rho_given_use", "no_given_use", *selected.COLUMNS),
    *("reliability", "ceiling", "ceiling_low", "ceiling_high"),
    *("p", *(f"p_{m}" for m in families.METHODS), "p_maxt", "p_documents", "p_documents_maxt"),
    *("sesoi", "p_tost", "p_tost_crossed", "p_equivalence", "p_equivalence_crossed"),
    *("p_beyond", "p_beyond_these", *PLAN, "no_plan"),
    *(
        "family_size",
        "verdict",
        "verdict_these_experts",
        "supports",
        "reason",
        "too_few",
        "caution",
    ),
]


def ranking_table(
    cells: list[Ranked],
    outcome: str,
    per: str,
    sesoi: float,
    recipe: Protocol,
    order: list[str],
    absent: Collection[str] = (),
) -> pd.DataFrame:
    """Rows in the order of `order` and of layers; metrics form one family, each control its own.

    The metrics in `absent` have no value for any expert: they have rows and are in no family.
    """
    table = pd.DataFrame([cell.row for cell in cells])
    family = np.where(table["role"] == "metric", "metric", table["metric"])
    tested = ~((table["role"] == "metric") & table["metric"].isin(list(absent))).to_numpy()
    for name in dict.fromkeys(family[tested]):
        members = np.flatnonzero((family == name) & tested)
        part = table.loc[members]
        p = part["p"].to_numpy(float)
        columns: dict[str, Any] = {f"p_{m}": families.adjust(p, m) for m in families.METHODS}
        null = [cells[i].experts for i in members]
        columns["p_maxt"] = step_down(part["z"].to_numpy(float), null)
        columns |= document_columns(
            part["p_documents"].to_numpy(float),
            part["z_documents"].to_numpy(float),
            [cells[i].documents for i in members],
        )
        ok = part["reason"].isna().to_numpy()
        columns |= _plans(part, ok, null, sesoi, recipe)
        columns |= size_columns([cells[i].size for i in members], sesoi, recipe)
        columns["family_size"] = len(members)
        columns |= claims(part, columns, sesoi, recipe)
        one, other = np.stack([cells[i].halves for i in members], axis=-1)
        columns |= selected.held_out_columns(part["metric"].tolist(), ok, one, other)
        for column, values in columns.items():
            table.loc[members, column] = values
    for column in ("verdict", "verdict_these_experts"):
        table.loc[~tested, column] = equivalence.NOT_ESTIMABLE
    table["sesoi"], table["outcome"], table["per"], table["question"] = (
        sesoi,
        outcome,
        per,
        QUESTION,
    )
    place = [order.index(n) for n in table["metric"]]
    table = table.assign(place=place).sort_values(["role", "place", "layer"], kind="stable")
    table = pd.concat([table[table["role"] == r] for r in ("metric", "control")], ignore_index=True)
    return finish(table.loc[:, COLUMNS].copy())


def _plans(
    part: pd.DataFrame, ok: np.ndarray, null: list[np.ndarray], sesoi: float, recipe: Protocol
) -> dict[str, Any]:
    """Minimum detectable correlation and what would decide each cell; `no_plan` where that is nothing."""
    out: dict[str, Any] = {name: np.full(len(part), np.nan) for name in PLAN}
    out["no_plan"] = np.full(len(part), None, dtype=object)
    size = len(part)
    critical = critical_of(null, recipe.alpha)
    if recipe.decision != "maxt":
        critical = float(scipy.stats.norm.isf(recipe.alpha / size / 2))
    for i in np.flatnonzero(ok):
        row = part.iloc[i]
        numbers, why = plan(
            int(row["n_experts"]),
            int(row["n_documents"]),
            Attenuation(float(row["reliability"])),
            float(row["se"]),
            critical,
            sesoi,
            recipe.alpha / size,
            recipe.power,
        )
        for name, value in numbers.items():
            out[name][i] = value
        out["no_plan"][i] = why
    return out
