"""From cells to the table a reader sees: sizes, intervals, tests, corrections, verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy

from moeaudit.errors import InputError

from ..families import families, selected
from ..families.experts import Null, joint_p, none
from ..families.maxt import MaxT, max_t
from ..nullable import nullable
from ..sizes import equivalence, power
from ..sizes.beyond import p_beyond, p_within
from ..sizes.bootstrap import document_weights
from ..sizes.limits import Spread, tost_p
from ..sizes.moments import d_z, jackknife, weighted
from .cells import Cell
from .protocol import Protocol
from .row import COUNTS, Reduced, reduced

WHOLE = [
    *(*COUNTS, "layer", "n_experts", "experts", "family_size"),
    *("n_to_decide", "n_documents_to_decide", "n_experts_to_decide"),
]
TEXT = ("reason", "caution", "no_plan")
SAID = (
    "no_experts",
    "no_oracle",
    "no_given_use",
    "no_crossed",
    "too_few",
    "supports",
)  # null where the number is there, or nothing is claimed
BEYOND = ("p_beyond", "p_beyond_these")  # with experts as a sample, too; by documents
ABSENCE = ("p_equivalence", "p_equivalence_crossed")  # by documents; with experts as a sample, too


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
    weights = weights_for(n_documents, protocol, seed)
    return table_of(
        [reduced(c, n_documents, protocol, weights, sizes) for c in cells], protocol, seed=seed
    )


def weights_for(n_documents: int, protocol: Protocol, seed: int) -> np.ndarray | None:
    """Bootstrap weights (n_boot, documents), shared by all cells; None if the interval needs none."""
    resampled = protocol.interval in ("percentile", "bca") and n_documents >= 2
    return document_weights(n_documents, protocol.n_boot, seed) if resampled else None


def table_of(cells: list[Reduced], protocol: Protocol, *, seed: int = 0) -> pd.DataFrame:
    """The table of cells that are already reduced, in their order."""
    table = pd.DataFrame([cell.row for cell in cells])
    if table.empty:
        raise InputError("There are no cells, so there is nothing to test.")
    for members in _families(cells):
        _correct(table, members, [cells[i] for i in members], protocol, seed)
    absent = [i for i, cell in enumerate(cells) if not cell.tested]
    for name in ("verdict", "verdict_these_experts"):
        table.loc[absent, name] = equivalence.NOT_ESTIMABLE
    table.loc[absent, ["sesoi", "sesoi_nats"]] = np.nan  # in no family, so held against nothing
    if protocol.equivalence is None:  # the protocol makes no such claims
        table = table.drop(columns=[*ABSENCE])
    return finish(table)


def _families(cells: list[Reduced]) -> list[list[int]]:
    names = ["metric" if c.role == "metric" else f"control {c.metric}" for c in cells]
    tested = [i for i, c in enumerate(cells) if c.tested]
    return [
        [i for i in tested if names[i] == name] for name in dict.fromkeys(names[i] for i in tested)
    ]


def _correct(
    table: pd.DataFrame, members: list[int], cells: list[Reduced], protocol: Protocol, seed: int
) -> None:
    """Fill the columns that need the whole family: corrections, equivalence, power, verdicts."""
    part = table.loc[members]
    usable = part["reason"].isna().to_numpy()
    flipped = _flip([c.moments.difference_sums for c in cells], usable, protocol, seed)
    ranked = _flip([c.rank_sums for c in cells], usable, protocol, seed)
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
    columns |= _absence(part, cells, usable, protocol, flipped)
    decision = columns[f"p_{protocol.decision}"]
    columns |= _held_out(cells, usable, seed)
    columns |= over_experts([c.null for c in cells])
    columns |= claims(decision, columns, part, protocol, part["sesoi"].to_numpy(float))
    for name, values in columns.items():
        table.loc[members, name] = values


def _held_out(cells: list[Reduced], usable: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """The largest d_z of a family, picked in one half of the documents and read in the other."""
    n_documents = len(cells[0].moments.sums)
    halves = selected.halvings(n_documents, seed)[: None if n_documents > 1 else 0]
    one, other = (
        np.stack([d_z(weighted(c.moments, w)) for c in cells], axis=1) for w in (halves, 1 - halves)
    )
    return selected.held_out_columns([c.metric for c in cells], usable, one, other)


def over_experts(family: list[Null | None]) -> dict[str, Any]:
    """The columns of a family that come from shuffling its metrics over experts."""
    told = [none("experts were not shuffled") if x is None else x for x in family]
    band = np.array([x.band for x in told])
    return {
        "experts": np.array([x.experts if x.reason is None else np.nan for x in told]),
        "p_experts": np.array([x.p for x in told]),
        "p_experts_maxt": joint_p(told),
        "null_low": band[:, 0],
        "null_high": band[:, 1],
        "no_experts": np.array([x.reason for x in told], dtype=object),
    }


def claims(
    decision: np.ndarray,
    columns: Mapping[str, Any],
    part: pd.DataFrame,  # with d_z, its limits and too_few
    protocol: Protocol,
    sesoi: np.ndarray,  # in d_z, of each row
) -> dict[str, list[Any]]:
    """Verdicts by documents and experts, by documents alone, and what each row supports."""
    # A bound that is nothing (a share of no harm) leaves the size open; only a protocol has none.
    bounds = [(float(x) if x > 0 else np.nan) if protocol.equivalence else None for x in sesoi]
    limits = part[["d_z", "d_z_low", "d_z_high"]].to_numpy(float).tolist()
    few = part["too_few"].notna().tolist()
    family = columns["p_experts_maxt"]
    if not protocol.experts:
        family = np.full(len(decision), np.nan)
    these = columns["p_equivalence"], columns["p_beyond_these"]
    both = columns["p_equivalence_crossed"], columns["p_beyond"]

    def graded(i: int, p_experts: float) -> tuple[str, str | None]:
        small, beyond = these if np.isnan(p_experts) else both
        return equivalence.graded(
            float(decision[i]), float(small[i]), *limits[i], p_experts=p_experts, p_beyond=float(beyond[i]),
            bound=bounds[i], alpha=protocol.alpha, few=few[i],
        )  # fmt: skip

    said = [graded(i, float(p)) for i, p in enumerate(family)]
    return {
        "verdict": [verdict for verdict, _ in said],
        "verdict_these_experts": [graded(i, float("nan"))[0] for i in range(len(family))],
        "supports": [supports for _, supports in said],
    }


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
    cells: list[Reduced],
    usable: np.ndarray,
    protocol: Protocol,
    flipped: MaxT,
) -> dict[str, np.ndarray]:
    """TOST by document and with experts as well, and what the cell could have found, on the scale of d_z."""
    empty = np.full(len(part), np.nan)
    names = ("p_tost", "p_tost_crossed", *BEYOND, "alpha_cell", "power_at_sesoi", "mde")
    out = {name: empty.copy() for name in (*names, "n_to_decide", "n_documents_to_decide")}
    for i, (cell, ok) in enumerate(zip(cells, usable)):
        m, se = cell.moments, float(part["d_z_se"].iloc[i])
        if not ok or not se > 0:
            continue
        estimate, dof = float(part["d_z"].iloc[i]), float(m.n_documents - 1)
        sesoi = float(part["sesoi"].iloc[i])
        if not sesoi > 0:  # a share of nothing: no bound, so no claim of equivalence
            continue
        spread = Spread.of(jackknife(m, "d_z"))
        out["p_tost"][i] = tost_p(estimate, spread, sesoi)
        out["p_beyond_these"][i] = p_beyond(estimate, spread, sesoi)
        if cell.part.reason is None:
            out["p_beyond"][i] = p_beyond(estimate, spread, sesoi, around=cell.part.around)
            out["p_tost_crossed"][i] = p_within(estimate, spread, sesoi, around=cell.part.around)
        # At no effect d_z varies as the mean does, and only that spread belongs in a plan.
        by_token = protocol.test.startswith("paired")
        null_se = np.sqrt((1.0 if by_token else float(part["design_effect"].iloc[i])) / m.n)
        null_dof = float(m.n - 1) if by_token else dof
        null_se = float(null_se)
        level = _cell_level(protocol, flipped, dof, len(part))
        needed = power.documents_to_decide(
            null_se,
            m.n_documents,
            sesoi,
            level,
            protocol.alpha / len(part),
            protocol.power,
        )
        out["alpha_cell"][i] = level
        out["power_at_sesoi"][i] = power.power_t(sesoi, null_se, null_dof, level)
        out["mde"][i] = power.minimum_detectable(null_se, null_dof, level, protocol.power)
        out["n_documents_to_decide"][i] = needed
        out["n_to_decide"][i] = np.ceil(needed * m.n / m.n_documents)
    return out | sized(out, protocol)


def sized(p: Mapping[str, np.ndarray], protocol: Protocol) -> dict[str, np.ndarray]:
    """The tests of size of a family, corrected: `BEYOND` of columns of these names, `ABSENCE` of p_tost and
    p_tost_crossed; the latter NaN where the protocol makes no claims of equivalence."""
    how = protocol.equivalence or "holm"
    out = {name: families.adjust(p[name], how) for name in BEYOND}
    for name, raw in zip(ABSENCE, ("p_tost", "p_tost_crossed")):
        out[name] = families.adjust(p[raw], how)
        if protocol.equivalence is None:
            out[name] = np.full(len(p[raw]), np.nan)
    return out


def _cell_level(protocol: Protocol, flipped: MaxT, dof: float, size: int) -> float:
    """The level one cell is tested at: what max-T's critical value comes to, or alpha / m."""
    if protocol.decision != "maxt" or not np.isfinite(flipped.critical):
        return protocol.alpha / size
    t = flipped.critical * np.sqrt(dof / (dof + 1))  # its deviation is with ddof = 0
    return float(np.clip(2 * scipy.stats.t.sf(t, dof), 1e-12, protocol.alpha))


def finish(table: pd.DataFrame) -> pd.DataFrame:
    """Nullable columns: whole numbers as Int64, the others as Float64, nothing as NaN."""
    return nullable(table, WHOLE, (*TEXT, *SAID))
