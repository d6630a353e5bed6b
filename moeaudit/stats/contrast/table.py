"""From cells to the table a reader sees: sizes, intervals, tests, corrections, verdicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from moeaudit.errors import InputError

from ..families import families
from ..families.maxt import MaxT, max_t
from ..sizes import equivalence, power
from ..sizes.bootstrap import document_weights
from ..sizes.effect_sizes import Pairs, interval_of
from ..sizes.limits import adjusted_tost
from ..sizes.moments import COUNT
from ..sizes.paired import cluster_t, design_effect, paired_t, signed_rank_sums, wilcoxon
from .cells import Cell
from .protocol import Protocol

COUNTS = ["n", "n_documents", "n_dropped", "n_tied", "n_all_tied", "n_unscored", "n_partial"]
# Measured in docs/methods/validity.md: what holds from 25 documents on is not claimed below.
FEW_DOCUMENTS, FEW_TOKENS, FEW_FOR_POWER = 25, 500, 50
WHOLE = [
    *(*COUNTS, "layer", "n_experts", "family_size"),
    *("n_to_decide", "n_documents_to_decide", "n_experts_to_decide"),
]
TEXT = ("reason", "caution", "no_plan")


def cells_table(
    cells: list[Cell],
    n_documents: int,
    protocol: Protocol,
    *,
    seed: int = 0,
    sizes: tuple[str, ...] = ("d_z",),
) -> pd.DataFrame:
    """One row per cell. Metrics form one family; each control forms its own over the layers.

    Numbers that cannot be given are null (pd.NA), and `reason` says why; columns are pandas'
    nullable Float64 and Int64, so that a table never holds NaN.
    """
    reduced = [Pairs(c.document, c.high, c.low, n_documents) for c in cells]
    resampled = protocol.interval in ("percentile", "bca") and n_documents >= 2
    weights = document_weights(n_documents, protocol.n_boot, seed) if resampled else None
    rows = [_row(c, m, protocol, weights, sizes) for c, m in zip(cells, reduced)]
    table = pd.DataFrame(rows)
    if table.empty:
        raise InputError("There are no cells, so there is nothing to test.")
    for members in _families(cells):
        _correct(table, members, [reduced[i] for i in members], protocol, seed)
    if protocol.equivalence is None:  # the protocol makes no such claims
        table = table.drop(columns="p_equivalence")
    return finish(table)


def _families(cells: list[Cell]) -> list[list[int]]:
    names = ["metric" if c.role == "metric" else f"control {c.metric}" for c in cells]
    return [[i for i, n in enumerate(names) if n == name] for name in dict.fromkeys(names)]


def _row(
    cell: Cell,
    pairs: Pairs,
    protocol: Protocol,
    weights: np.ndarray | None,
    sizes: tuple[str, ...],
) -> dict[str, Any]:
    m, difference = pairs.moments, cell.difference
    row: dict[str, Any] = {
        "metric": cell.metric,
        "role": cell.role,
        "layer": cell.layer,
        "n": m.n,
        "n_documents": m.n_documents,
        "n_dropped": cell.n_dropped,
        "n_tied": cell.n_tied,
        "n_all_tied": cell.n_all_tied,
        "n_unscored": cell.n_unscored,
        "n_partial": cell.n_partial,
    }
    by_token, signed, by_document = paired_t(difference), wilcoxon(difference), cluster_t(m)
    reason = cell.reason or by_token.reason or by_document.reason
    row["mean_difference"] = float(pairs.values("mean_difference")[0]) if m.n else np.nan
    for size in sizes:
        row |= _size(size, pairs, protocol, weights, estimable=reason is None)
    row["d_z_se"] = pairs.se("d_z") if reason is None else np.nan
    limits = [row[f"{size}_{side}"] for size in sizes for side in ("low", "high")]
    if reason is None and not np.isfinite([row["d_z_se"], *limits]).all():
        reason = "too few documents or tokens: leaving one document out leaves no spread"
        row["d_z_se"] = np.nan
    row["design_effect"] = design_effect(m) if reason is None else np.nan
    row |= {"p_t": by_token.p, "p_wilcoxon": signed.p, "p_cluster": by_document.p}
    row["reason"] = reason
    row["caution"] = caution(m.sums[:, COUNT]) if reason is None else None
    return row


def caution(tokens: np.ndarray) -> str | None:
    """What to say of a cell with so many tokens in each document, if anything.

    Documents count as (sum of tokens)^2 / (sum of squared tokens): as many as there are if they are
    of one size, towards 1 where one document holds almost every token (Kish 1965).
    """
    d, worth = int((tokens > 0).sum()), float(tokens.sum() ** 2 / max((tokens**2).sum(), 1e-300))
    if d < FEW_DOCUMENTS:
        return (
            f"only {d} documents: with fewer than {FEW_DOCUMENTS}, intervals may be too short and "
            "skewed effects claimed too often"
        )
    if worth < FEW_DOCUMENTS / 2:
        return (
            f"tokens are so unevenly spread that {d} documents count as {worth:.1f}: intervals may "
            "be too short and skewed effects claimed too often"
        )
    if tokens.sum() < FEW_TOKENS:
        return (
            f"only {int(tokens.sum())} tokens: with heavy tails the deviation that d_z divides by is "
            "hardly known, and the interval of a large effect may be too short"
        )
    if d < FEW_FOR_POWER:
        return (
            f"fewer than {FEW_FOR_POWER} documents: where documents are skewed, power may be up to 7 "
            "points lower than the columns of power, mde and n to decide assume"
        )
    return None


def _size(
    name: str, pairs: Pairs, protocol: Protocol, weights: np.ndarray | None, *, estimable: bool
) -> dict[str, float]:
    low, high = np.nan, np.nan
    if estimable:
        low, high = interval_of(pairs, name, protocol.interval, protocol.level, weights)
    out = {name: float(pairs.values(name)[0]) if pairs.moments.n > 1 else np.nan}
    return out | {f"{name}_low": low, f"{name}_high": high}


def _correct(
    table: pd.DataFrame, members: list[int], reduced: list[Pairs], protocol: Protocol, seed: int
) -> None:
    """Fill the columns that need the whole family: corrections, equivalence, power, verdicts."""
    part = table.loc[members]
    usable = part["reason"].isna().to_numpy()
    flipped = _flip([p.moments.difference_sums for p in reduced], usable, protocol, seed)
    ranks = [signed_rank_sums(p.high - p.low, p.document, p.n_documents) for p in reduced]
    ranked = _flip(ranks, usable, protocol, seed)
    base = {
        "sign_flip": flipped.p_flip,
        "cluster_t": part["p_cluster"].to_numpy(float),
        "paired_t": part["p_t"].to_numpy(float),
        "paired_t_and_wilcoxon": part[["p_t", "p_wilcoxon"]].max(axis=1, skipna=False).to_numpy(),
    }[protocol.test]
    p = np.where(usable, base, np.nan)
    columns: dict[str, Any] = {"p_flip": flipped.p_flip, "p": p}
    columns |= {f"p_{method}": families.adjust(p, method) for method in families.METHODS}
    columns["p_maxt"] = flipped.p_maxt
    # Where every document's signed ranks add up to zero no flip differs from any other: p = 1.
    for name, values in (("p_rank_flip", ranked.p_flip), ("p_rank_maxt", ranked.p_maxt)):
        columns[name] = np.where(usable & np.isnan(values), 1.0, values)
    columns["family_size"] = len(members)
    columns["sesoi"] = protocol.sesoi
    columns |= _absence(part, reduced, usable, protocol, flipped)
    decision = columns[f"p_{protocol.decision}"]
    columns["verdict"] = [
        equivalence.verdict(*x, protocol.alpha)
        for x in zip(decision, columns["p_equivalence"], part["d_z"].to_numpy(float))
    ]
    for name, values in columns.items():
        table.loc[members, name] = values


def _flip(sums: list[np.ndarray], usable: np.ndarray, protocol: Protocol, seed: int) -> MaxT:
    """Sign-flips of a family's document sums (documents, cells), cells without a p set to zero."""
    return max_t(
        np.where(usable, np.stack(sums, axis=1), 0.0),
        n_flips=protocol.n_flips,
        alpha=protocol.alpha,
        seed=seed,
        statistic=protocol.statistic,
    )


def _absence(
    part: pd.DataFrame,
    reduced: list[Pairs],
    usable: np.ndarray,
    protocol: Protocol,
    flipped: MaxT,
) -> dict[str, np.ndarray]:
    """TOST by document, and what the cell could have found, both on the scale of d_z."""
    empty = np.full(len(part), np.nan)
    names = ("p_tost", "alpha_cell", "power_at_sesoi", "mde", "n_documents_to_decide")
    out = {name: empty.copy() for name in (*names, "n_to_decide")}
    for i, (pairs, ok) in enumerate(zip(reduced, usable)):
        m, se = pairs.moments, float(part["d_z_se"].iloc[i])
        if not ok or not se > 0:
            continue
        estimate, dof = float(part["d_z"].iloc[i]), float(m.n_documents - 1)
        out["p_tost"][i] = adjusted_tost(estimate, pairs.jackknife("d_z"), protocol.sesoi)
        # At no effect d_z varies as the mean does, and only that spread belongs in a plan.
        by_token = protocol.test.startswith("paired")
        null_se = np.sqrt((1.0 if by_token else float(part["design_effect"].iloc[i])) / m.n)
        null_dof = float(m.n - 1) if by_token else dof
        null_se = float(null_se)
        level = _cell_level(protocol, flipped, dof, len(part))
        needed = power.documents_to_decide(
            null_se,
            m.n_documents,
            protocol.sesoi,
            level,
            protocol.alpha / len(part),
            protocol.power,
        )
        out["alpha_cell"][i] = level
        out["power_at_sesoi"][i] = power.power_t(protocol.sesoi, null_se, null_dof, level)
        out["mde"][i] = power.minimum_detectable(null_se, null_dof, level, protocol.power)
        out["n_documents_to_decide"][i] = needed
        out["n_to_decide"][i] = np.ceil(needed * m.n / m.n_documents)
    corrected = families.adjust(out["p_tost"], protocol.equivalence or "holm")
    out["p_equivalence"] = corrected if protocol.equivalence else empty
    return out


def _cell_level(protocol: Protocol, flipped: MaxT, dof: float, size: int) -> float:
    """The level one cell is tested at: what max-T's critical value comes to, or alpha / m."""
    if protocol.decision != "maxt" or not np.isfinite(flipped.critical):
        return protocol.alpha / size
    t = flipped.critical * np.sqrt(dof / (dof + 1))  # its deviation is with ddof = 0
    return float(np.clip(2 * stats.t.sf(t, dof), 1e-12, protocol.alpha))


def finish(table: pd.DataFrame) -> pd.DataFrame:
    """Nullable columns: whole numbers as Int64, the others as Float64, nothing as NaN."""
    for name in table.columns:
        if name in WHOLE:
            table[name] = table[name].astype("Float64").astype("Int64")
        elif pd.api.types.is_float_dtype(table[name]):
            table[name] = pd.array(table[name].to_numpy(), dtype="Float64")
            table[name] = table[name].mask(np.isnan(table[name].to_numpy(float, na_value=np.nan)))
    for name in TEXT:
        if name in table:
            table[name] = table[name].astype(object).where(table[name].notna(), None)
    return table
