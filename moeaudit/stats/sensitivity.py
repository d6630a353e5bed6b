"""What the verdicts of a finished table would be under another smallest effect of interest.

A bound is a judgement, and a reader may hold another. Nothing of the census is needed again: the limits
of an effect do not depend on the bound, and the test of equivalence only on what the limits know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError
from moeaudit.frames import Frame

from .contrast.contrast import QUESTION
from .contrast.protocol import Defects, Protocol
from .contrast.table import ABSENCE, BEYOND, claims, sized
from .families.crossed import OverExperts
from .record.made import analyses
from .sizes import equivalence
from .sizes.beyond import p_beyond, p_within
from .sizes.bounds import HARMS, IN_NATS, Bound
from .sizes.limits import Spread, tost_p

GRID: tuple[float | str, ...] = (
    *(0.02, 0.03, 0.05, 0.075, 0.1, 0.15),
    *("0.003nats", "0.005nats", "0.01nats", "0.02nats", "0.05nats"),
    *("25%harm", "50%harm", "100%harm", "200%harm"),
)
NEEDS = (
    *("d_z", "d_z_se", "d_z_dof", "d_z_skewness", "sd_difference", "layer_mean"),
    *("experts_variance", "experts_dof"),
)
RAW = ("p_tost", "p_tost_crossed")


def verdicts_at(table: Frame, sesoi: Bound | str | float | int) -> Frame:
    """The within-token contrasts of `table` as if `sesoi` had been declared.

    Parameters
    ----------
    table
        From `contrast`, or several tables by `together`, also read back from Parquet: it must still say
        how it was made (`attrs`).
    sesoi
        A number in d_z, "0.01nats", or "50%harm" (of the layer's mean outcome).

    Returns the rows of that question with `sesoi`, `sesoi_nats`, `p_tost`, `p_beyond`, `p_equivalence` and
    `p_equivalence_crossed` (if the protocol makes such claims), `verdict`, `verdict_these_experts` and
    `supports` as `contrast(..., sesoi=sesoi)` gives them. "domains like these" is not among them, even where
    `table` says so: an audit raises `supports` by its tables of other domains, which are not made again for
    the new bound. What plans for the old bound (power, mde, n to decide) is left out.

    Raises InputError for a table that lacks what is needed, and for a bound that an outcome has no unit for.
    """
    bound, rows = Bound.parse(sesoi), _contrasts(table)
    bound.check(tuple(dict.fromkeys(rows["outcome"])))
    out = rows.drop(columns=[c for c in PLANS if c in rows])
    for name, values in _again(rows, bound, analyses(table)).items():
        out[name] = values
    out.attrs = table.attrs
    return out


def verdicts_over(table: Frame, grid: Sequence[Bound | str | float | int] = GRID) -> Frame:
    """How many metric contrasts get which verdict, over a grid of smallest effects of interest.

    Returns one row per outcome and bound: `outcome`, `sesoi` (as it would be declared), `unit` ("d_z",
    "nats", "harm"), `d_z` (its median over cells, on that scale), `cells`, and a column for each verdict
    that occurs, holding a count. A bound that an outcome has no unit for has no row there. See
    `verdicts_at` for what is computed and what is raised.
    """
    rows, made = _contrasts(table), analyses(table)
    out: list[dict[str, Any]] = []
    for outcome in dict.fromkeys(rows["outcome"]):
        mine = rows[(rows["outcome"] == outcome) & (rows["role"] == "metric")]
        for bound in usable(grid, str(outcome)):
            found = _again(mine, bound, made)
            counts = {str(k): int(n) for k, n in found["verdict"].value_counts().items()}
            size = _plain(found["sesoi"])
            middle = float(np.nanmedian(size)) if np.isfinite(size).any() else np.nan
            entry = {"outcome": outcome, "sesoi": str(bound), "unit": bound.unit, "d_z": middle}
            out.append({**entry, "cells": len(mine), **counts})
    words = [*equivalence.VERDICTS, *sorted({w for row in out for w in row} - {*KEYS})]
    table = pd.DataFrame([{**row, **{w: row.get(w, 0) for w in words}} for row in out])
    seen = [w for w in dict.fromkeys(words) if len(table) and int(table[w].sum())]
    return table.reindex(columns=[*KEYS, *seen])


KEYS = ("outcome", "sesoi", "unit", "d_z", "cells")
PLANS = ("alpha_cell", "power_at_sesoi", "mde", "n_to_decide", "n_documents_to_decide")


def usable(grid: Iterable[Bound | str | float | int], outcome: str) -> list[Bound]:
    """The bounds of a grid that an outcome has a unit for."""
    bounds = [Bound.parse(each) for each in grid]
    has = {"nats": outcome in IN_NATS, "harm": outcome in HARMS}
    return [bound for bound in bounds if has.get(bound.unit, True)]


def _again(rows: Frame, bound: Bound, made: Mapping[Any, Any]) -> dict[str, pd.Series]:
    """The columns that depend on the bound, family by family; rows that were in none keep theirs."""
    names = [
        "sesoi",
        "sesoi_nats",
        *RAW,
        *BEYOND,
        "verdict",
        "verdict_these_experts",
        "supports",
    ]
    columns = {name: rows[name].astype(object).to_numpy(copy=True) for name in names}
    columns |= {name: np.full(len(rows), pd.NA, dtype=object) for name in ABSENCE}
    claimed = True
    place = pd.Series(np.arange(len(rows)), index=rows.index)
    for (outcome, _), family in rows.groupby(["outcome", _family_names(rows)], sort=False):
        entry = made.get((QUESTION, str(outcome)))
        if entry is None:
            raise InputError(
                f"The table does not say how its contrasts of {outcome} were made (pandas drops attrs when it "
                "joins tables; moeaudit.stats.together does not)."
            )
        part = family[family["family_size"].notna()]  # the rest was in no family
        recipe = _recipe(entry["protocol"])
        claimed = recipe.equivalence is not None
        if len(part):
            for name, values in _held(part, bound, recipe).items():
                columns[name][place[part.index]] = values
    if not claimed:
        columns = {name: values for name, values in columns.items() if name not in ABSENCE}
    numbers = ("sesoi", "sesoi_nats", *RAW, *BEYOND, *ABSENCE)
    out = {name: pd.Series(values, index=rows.index) for name, values in columns.items()}
    for name in numbers:
        if name in out:
            plain = np.array([np.nan if pd.isna(v) else float(v) for v in out[name]])
            out[name] = pd.Series(pd.array(plain, dtype="Float64"), index=rows.index)
            out[name] = out[name].mask(np.isnan(plain))
    out["supports"] = out["supports"].where(out["supports"].notna(), None)
    return out


def _held(part: Frame, bound: Bound, recipe: Protocol) -> dict[str, Any]:
    """The columns of one family that depend on the bound."""
    names = (*NEEDS, "n_documents", "p_experts_maxt")
    number = {name: _plain(part[name]) for name in names}
    sizes = [bound.sizes(*x) for x in zip(number["sd_difference"], number["layer_mean"])]
    sesoi = np.array([size for size, _ in sizes])
    p = {name: np.full(len(part), np.nan) for name in (*RAW, *BEYOND)}
    for i in np.flatnonzero((number["d_z_se"] > 0) & (sesoi > 0) & part["reason"].isna()):
        d, se, dof, skewness = (float(number[name][i]) for name in NEEDS[:4])
        spread = Spread(se, dof, skewness, int(number["n_documents"][i]))
        p["p_tost"][i] = tost_p(d, spread, float(sesoi[i]))
        p["p_beyond_these"][i] = p_beyond(d, spread, float(sesoi[i]))
        if part["no_crossed"].isna().iloc[i]:
            variance, known = (float(number[n][i]) for n in NEEDS[-2:])
            experts = OverExperts(variance, known)
            p["p_beyond"][i] = p_beyond(d, spread, float(sesoi[i]), around=experts.around)
            p["p_tost_crossed"][i] = p_within(d, spread, float(sesoi[i]), around=experts.around)
    p |= sized(p, recipe)
    columns = {**p, "p_experts_maxt": number["p_experts_maxt"]}
    decision = _plain(part[f"p_{recipe.decision}"])
    found: dict[str, Any] = claims(decision, columns, part, recipe, sesoi)
    for name in ("verdict", "verdict_these_experts"):
        kept = (
            ~part[name].isin(equivalence.GRADED).to_numpy()
        )  # a word that no bound has a say in stands
        found[name] = np.where(kept, part[name].to_numpy(dtype=object), found[name])
    nats = np.array([nats for _, nats in sizes])
    return {
        **p,
        "sesoi": sesoi,
        "sesoi_nats": nats,
        **found,
    }


def _plain(column: Any) -> np.ndarray:
    return column.astype("Float64").to_numpy(dtype=float, na_value=np.nan)


def _contrasts(table: Frame) -> Frame:
    mine = table["question"] == QUESTION if "question" in table else slice(0, 0)
    rows = table[mine]
    rows.attrs = {}  # pandas copies them, all the way down, for every column that is read
    lacks = [name for name in NEEDS if name not in table]
    if lacks or rows.empty:
        what = f"has no column {', '.join(lacks)}" if lacks else "holds no such contrast"
        raise InputError(
            f"Verdicts for another bound need the table of a within-token contrast, as moeaudit.contrast gives "
            f"it; this one {what}."
        )
    return rows


def _family_names(rows: Frame) -> pd.Series:
    """All metrics are one family; each control is one of its own."""
    names = [
        f"control {name}" if role == "control" else "metric"
        for name, role in zip(rows["metric"], rows["role"])
    ]
    return pd.Series(names, index=rows.index)


def _recipe(settings: dict[str, Any]) -> Protocol:
    lists = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    return Protocol(**{**lists, "defects": Defects(**settings["defects"])})
