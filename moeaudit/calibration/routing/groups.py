"""Ways to put tokens into groups by what the router did. Arrays in, one label per token out.

Groups that are learnt (cluster centres, quantile edges) are learnt once and applied as they are to
other documents, so that a group means the same thing in both places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.vq import kmeans, vq

from moeaudit.errors import InputError
from moeaudit.seeds import generator


def top1_expert(
    expert: Int[np.ndarray, "tokens top_k"], weight: Float[np.ndarray, "tokens top_k"]
) -> Int[np.ndarray, " tokens"]:
    """The expert with the largest weight at each token (the first of equal ones)."""
    return expert[np.arange(len(expert)), weight.argmax(axis=1)]


def gate_entropy(weight: Float[np.ndarray, "tokens top_k"]) -> Float[np.ndarray, " tokens"]:
    """Entropy (nats) of each token's gate weights, normalised to sum 1: 0 to log top_k.

    Of the active experts only, since weights of the others never reached the model.
    """
    total = weight.sum(axis=1, keepdims=True)
    if (weight < 0).any() or (total <= 0).any():
        raise InputError(
            f"{int((weight < 0).any(axis=1).sum() + (total <= 0).sum())} token(s) have negative "
            "gate weights or none; the entropy of a gate needs weights that are not all zero."
        )
    p = weight / total
    with np.errstate(divide="ignore", invalid="ignore"):
        return -np.where(p > 0, p * np.log(p), 0.0).sum(axis=1)


def expert_disagreement(
    weight: Float[np.ndarray, "tokens experts"], output: Float[np.ndarray, "tokens experts width"]
) -> Float[np.ndarray, " tokens"]:
    r"""Spread of the active experts' outputs about their weighted mean, sum_k r_k ||p_k - p||^2.

    `r` are the gate weights normalised to sum 1. For outputs that are class probabilities this is
    the disagreement of arXiv 2606.20544; for vectors of the residual stream see `cancellation`.
    """
    r = weight / weight.sum(axis=1, keepdims=True)
    mean = np.einsum("tk,tkd->td", r, output)
    return np.einsum("tk,tkd->t", r, (output - mean[:, None]) ** 2)


def cancellation(
    contribution_norm: Float[np.ndarray, "tokens top_k"], routed_norm: Float[np.ndarray, " tokens"]
) -> Float[np.ndarray, " tokens"]:
    r"""1 - ||sum_k w_k E_k|| / sum_k ||w_k E_k||: how much of what experts write cancels.

    0 where all active experts write in one direction, near 1 where they write against each other:
    the disagreement of experts that write vectors, free of their scale.
    """
    total = contribution_norm.sum(axis=1)
    return 1 - np.divide(routed_norm, total, out=np.ones_like(total), where=total > 0)


@dataclass(frozen=True)
class QuantileGroups:
    """Cuts of a measurement into groups of about equal size."""

    edges: Float[np.ndarray, " inner"]
    name: str

    @classmethod
    def of(
        cls, values: Float[np.ndarray, " tokens"], n: int = 4, name: str = "q"
    ) -> QuantileGroups:
        """Cut at the quantiles 1/n, 2/n ...; equal edges (ties) are merged, so groups may be fewer."""
        if n < 2 or len(values) == 0 or not np.isfinite(values).all():
            raise InputError(
                f"Cutting {len(values)} value(s) into {n} groups needs finite values and n >= 2."
            )
        edges = np.unique(np.quantile(values, np.arange(1, n) / n))
        return cls(edges, name)

    def label(self, values: Float[np.ndarray, " tokens"]) -> np.ndarray:
        """`name`1 for the lowest group, and so on; values on an edge go below it."""
        code = np.searchsorted(self.edges, values, side="left")
        return np.array([f"{self.name}{k + 1}" for k in range(len(self.edges) + 1)])[code]


@dataclass(frozen=True)
class RouterClusters:
    """k-means centres of router vectors."""

    centres: Float[np.ndarray, "clusters width"]

    @classmethod
    def of(
        cls,
        vectors: Float[np.ndarray, "tokens width"],
        k: int = 8,
        *,
        seed: int = 0,
        starts: int = 4,
    ) -> RouterClusters:
        """The best of `starts` runs of k-means, each from k-means++ centres drawn with `seed`."""
        x = np.asarray(vectors, dtype=np.float64)
        if x.ndim != 2 or k < 2 or len(np.unique(x[: 50 * k], axis=0)) < k:
            raise InputError(
                f"k-means into {k} clusters needs router vectors (tokens, width) with at least "
                f"{k} different ones, and k >= 2; got the shape {x.shape}."
            )
        best, lowest = np.empty((0, x.shape[1])), np.inf
        for start in range(starts):
            first = _spread_out(x, k, generator(seed, "clusters", start))
            centres, _ = kmeans(x, first)  # a cluster that loses all its tokens is left out
            loss = float((vq(x, centres)[1] ** 2).sum())
            if loss < lowest:
                best, lowest = centres, loss
        return cls(best)

    def label(self, vectors: Float[np.ndarray, "tokens width"]) -> np.ndarray:
        """ "c0", "c1" ... by the nearest centre."""
        squares = (self.centres**2).sum(axis=1)
        code = (squares - 2 * vectors @ self.centres.T).argmin(axis=1)
        return np.array([f"c{k}" for k in range(len(self.centres))])[code]


def router_vectors(
    expert: Int[np.ndarray, "tokens top_k"], weight: Float[np.ndarray, "tokens top_k"], n: int
) -> Float[np.ndarray, "tokens experts"]:
    """The weights of the chosen experts laid out over all `n` experts, zero for the others."""
    out = np.zeros((len(expert), n))
    np.put_along_axis(out, expert, weight.astype(np.float64), axis=1)
    return out


def _spread_out(x: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++ (Arthur & Vassilvitskii 2007): each next centre drawn by squared distance."""
    centres = [x[rng.integers(len(x))]]
    distance = ((x - centres[0]) ** 2).sum(axis=1)
    for _ in range(k - 1):
        centres.append(x[rng.choice(len(x), p=distance / distance.sum())])
        distance = np.minimum(distance, ((x - centres[-1]) ** 2).sum(axis=1))
    return np.array(centres)
