"""Mutual information of a document's label and what its tokens chose, against permuted labels.

Tokens of one document are alike, so a null that shuffled tokens would be far too narrow: whole
documents trade their labels. Arrays only; everything is in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

Labels = Shaped[np.ndarray, " documents"] | Sequence[str] | Sequence[int]


def mutual_information(
    counts: Float[np.ndarray, "documents cells"],
    labels: Labels,
    group: Int[np.ndarray, " cells"] | None = None,
) -> Float[np.ndarray, " groups"]:
    r"""Plug-in \(I = \sum_{d,e} p(d,e) \ln \frac{p(d,e)}{p(d) p(e)}\) of label and cell, group by group.

    `counts` holds slots by document and cell; `group` says which cells belong together (experts of one
    layer) and does not fall; all of them if None. At most ln(number of labels).
    """
    _, code = np.unique(np.asarray(labels), return_inverse=True)
    return _information(counts, code, *_groups(counts, group))


@dataclass(frozen=True)
class Dependence:
    """`value`: the information in each group; `null`: the same after labels were dealt out anew."""

    value: Float[np.ndarray, " groups"]
    null: Float[np.ndarray, "permutations groups"]

    @property
    def null_mean(self) -> Float[np.ndarray, " groups"]:
        return self.null.mean(axis=0)

    @property
    def null_95(self) -> Float[np.ndarray, " groups"]:
        return np.quantile(self.null, 0.95, axis=0)

    @property
    def p(self) -> Float[np.ndarray, " groups"]:
        """Share of permutations, the observed order included, with at least this information."""
        reached = (self.null >= self.value * (1 - 1e-12)).sum(axis=0)  # rounding parts no ties
        return (1 + reached) / (1 + len(self.null))


def permuted_information(
    counts: Float[np.ndarray, "documents cells"],
    labels: Labels,
    group: Int[np.ndarray, " cells"] | None = None,
    *,
    permutations: int = 199,
    seed: int = 0,
) -> Dependence:
    """`mutual_information` and its null; the same permutations serve every group."""
    _, code = np.unique(np.asarray(labels), return_inverse=True)
    rng, groups = np.random.default_rng(seed), _groups(counts, group)
    value = _information(counts, code, *groups)
    null = [_information(counts, rng.permutation(code), *groups) for _ in range(permutations)]
    return Dependence(value, np.stack(null))


def divergence(
    table: Float[np.ndarray, "labels cells"], totals: Float[np.ndarray, "labels cells"]
) -> Float[np.ndarray, " cells"]:
    """KL of each cell's distribution over labels from that of its group; NaN for an empty cell."""
    with np.errstate(invalid="ignore", divide="ignore"):
        within = table / table.sum(axis=0)
        overall = totals / totals.sum(axis=0)
        terms = np.where(table > 0, within * np.log(within / overall), 0.0)
    return np.where(table.sum(axis=0) > 0, terms.sum(axis=0), np.nan)


def group_totals(
    table: Float[np.ndarray, "labels cells"], group: Int[np.ndarray, " cells"]
) -> Float[np.ndarray, "labels cells"]:
    """Each cell's column replaced by the sum over the cells of its group."""
    _, start, place = np.unique(group, return_index=True, return_inverse=True)
    return np.add.reduceat(table, start, axis=1)[:, place]


def _groups(counts: np.ndarray, group: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The group of each cell, and the first cell of each group."""
    group = np.zeros(counts.shape[1], dtype=np.int64) if group is None else group
    return group, np.unique(group, return_index=True)[1]


def _information(
    counts: np.ndarray, code: np.ndarray, group: np.ndarray, start: np.ndarray
) -> np.ndarray:
    table = np.eye(code.max() + 1)[code].T @ counts  # (labels, cells)
    used = table.sum(axis=0)
    share = np.nan_to_num(divergence(table, group_totals(table, group))) * used
    return np.add.reduceat(share, start) / np.add.reduceat(used, start)
