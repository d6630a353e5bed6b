"""One cell's own numbers: sizes, intervals, tests. What its family adds is the table's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from ..families.crossed import OverExperts, d_z_over_experts, unknown
from ..families.experts import Null
from ..few import carriers, kish, lean, too_few
from ..least import FEW_DOCUMENTS, FEW_FOR_POWER, FEW_TOKENS
from ..sizes.effect_sizes import Pairs, interval_of
from ..sizes.lengths import equal_d_z, p_lengths
from ..sizes.limits import degrees_of_freedom, skewness_of
from ..sizes.moments import COUNT, Moments, weighted
from ..sizes.paired import cluster_t, design_effect, paired_t, signed_rank_sums, wilcoxon
from .cells import Cell
from .protocol import Protocol

CLEAR = 0.01  # that effects go with length, to be said of one cell of many
LINKED = "effects go with the length of documents, and d_z counts long ones more: d_z_equal counts all alike"
COUNTS = ["n", "n_documents", "n_dropped", "n_tied", "n_all_tied", "n_unscored", "n_partial"]


@dataclass(frozen=True)
class Reduced:
    """A cell without its tokens: its row, and its sums by document that the family's tests need.

    `rank_sums` are sums of signed ranks. `tested` is False for a metric that no expert has a value
    of: it has a row, and belongs to no family. `null` is the cell with its values on other experts.
    """

    metric: str
    role: str
    layer: int | None
    row: dict[str, Any]
    moments: Moments
    rank_sums: Float[np.ndarray, " documents"]
    tested: bool = True
    null: Null | None = None
    part: OverExperts = field(default_factory=lambda: unknown("experts were not looked at"))


def reduced(
    cell: Cell,
    n_documents: int,
    protocol: Protocol,
    weights: Float[np.ndarray, "n_boot documents"] | None,
    sizes: tuple[str, ...],
) -> Reduced:
    """Everything that needs the cell's tokens, computed; after this they can go."""
    pairs = Pairs(cell.document, cell.high, cell.low, n_documents)
    row, part = _row(cell, pairs, protocol, weights, sizes), unknown("the cell has no number")
    if row["reason"] is None:
        part = over_experts_of(cell)
    row |= _spread(cell, pairs, protocol, row, part)
    ranks = signed_rank_sums(cell.difference, cell.document, n_documents)
    return Reduced(
        cell.metric, cell.role, cell.layer, row, pairs.moments, ranks, cell.tested, cell.null, part
    )


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
    row |= _known(pairs) if reason is None else dict.fromkeys(SPREAD, np.nan)
    sd = float(np.sqrt(weighted(m).var_difference[0])) if m.n > 1 else np.nan
    row |= {"sd_difference": sd, "layer_mean": cell.layer_mean, "top_share": top_share(difference)}
    row["sesoi"], row["sesoi_nats"] = protocol.bound.sizes(sd, cell.layer_mean)
    limits = [row[f"{size}_{side}"] for size in sizes for side in ("low", "high")]
    if reason is None and not np.isfinite([row["d_z_se"], *limits]).all():
        reason = "too few documents or tokens: leaving one document out leaves no spread"
        row |= dict.fromkeys(("d_z_se", *SPREAD), np.nan)
    row["design_effect"] = design_effect(m) if reason is None else np.nan
    row |= {"p_t": by_token.p, "p_wilcoxon": signed.p, "p_cluster": by_document.p}
    row["reason"] = reason
    return row


SPREAD = ("d_z_dof", "d_z_skewness")


def _known(pairs: Pairs) -> dict[str, float]:
    """What the limits of d_z know of the documents besides d_z_se: with these a finished table can
    be held against another smallest effect of interest (`stats.verdicts_at`)."""
    left = pairs.jackknife("d_z")
    return {"d_z_dof": degrees_of_freedom(left), "d_z_skewness": skewness_of(left)}


def top_share(difference: Float[np.ndarray, " tokens"]) -> float:
    """Share of the differences' sum of squares about their mean that the largest 1 % of them carry.

    About .085 for a normal distribution, near 1 where d_z is about a few tokens. NaN without a spread."""
    squares = np.sort((difference - difference.mean()) ** 2) if len(difference) else difference
    total = float(squares.sum())
    return float(squares[-max(1, len(squares) // 100) :].sum()) / total if total > 0 else np.nan


def _spread(
    cell: Cell, pairs: Pairs, protocol: Protocol, row: dict[str, Any], part: OverExperts
) -> dict[str, float | str | None]:
    """What documents, their lengths and the experts leave of a cell."""
    m, difference = pairs.moments, cell.difference
    equal = ("d_z_equal", "d_z_equal_low", "d_z_equal_high")
    out: dict[str, Any] = dict.fromkeys((*equal, "p_lengths"), np.nan)
    out |= dict.fromkeys(("d_z_crossed_low", "d_z_crossed_high"), np.nan)
    out |= {"experts_variance": part.variance, "experts_dof": part.dof}
    if row["reason"] is not None:
        return out | {"no_crossed": row["reason"], "too_few": None, "caution": None}
    tokens, linked = m.sums[:, COUNT], p_lengths(m.difference_sums, m.sums[:, COUNT])
    out |= dict(zip(equal, equal_d_z(m, protocol.level))) | {"p_lengths": linked}
    crossed = part.around(row["d_z"], row["d_z_low"], row["d_z_high"], protocol.level)
    out["d_z_crossed_low"], out["d_z_crossed_high"] = crossed
    out |= {"no_crossed": part.reason, "too_few": None, "caution": caution(tokens, linked)}
    if protocol.withhold:
        out["too_few"] = too_few(
            m.difference_sums,
            tokens,
            carriers=carriers(difference),
            lean=lean(difference),
            p_lengths=linked,
        )
    return out


def over_experts_of(cell: Cell) -> OverExperts:
    """The experts' part of a cell's variance; unknown where no metric of experts is tested."""
    if cell.null is not None and cell.null.reason is not None:
        return unknown(cell.null.reason)
    return d_z_over_experts(cell.difference, cell.document, cell.pair)


def caution(tokens: np.ndarray, linked: float = float("nan")) -> str | None:
    """What to say of a cell with so many tokens in each document, if anything.

    Documents count as (sum of tokens)^2 / (sum of squared tokens): as many as there are if they are
    of one size, towards 1 where one document holds almost every token (Kish 1965). `linked`: p that
    effects go with length.
    """
    said = [s for s in (_few(tokens), LINKED if linked <= CLEAR else None) if s is not None]
    return "; ".join(said) or None


def _few(tokens: np.ndarray) -> str | None:
    d, worth = int((tokens > 0).sum()), kish(tokens)
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
