"""Clusters of tokens by what the routers of all layers say of them, and what a cluster says of the domain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from moeaudit.errors import InputError
from moeaudit.seeds import generator
from moeaudit.stats.domains.information import mutual_information

from .vectors import RouterVectors


@dataclass(frozen=True)
class TokenClusters:
    """A cluster for each of the first tokens of the documents.

    `components` were kept of the principal components; `token_information` is what the cluster says of the token's
    own id, nats (plug-in, biased upward with many ids): clusters of topics say little of it, clusters of
    words much.
    """

    cluster: Int[np.ndarray, " firsts"]
    document: Int[np.ndarray, " firsts"]
    k: int
    components: int
    token_information: float
    documents: int

    def information(self, domain: Int[np.ndarray, " documents"]) -> float:
        """Mutual information of a token's cluster and its document's domain, nats."""
        counts = np.bincount(
            self.document * self.k + self.cluster, minlength=self.documents * self.k
        )
        return float(mutual_information(counts.reshape(-1, self.k).astype(np.float64), domain)[0])


def token_clusters(
    vectors: RouterVectors, *, k: int = 32, variance: float = 0.95, seed: int = 0
) -> TokenClusters:
    """EMO's token clusters: router probabilities of all layers, centred, PCA, unit length, spherical k-means.

    As many principal components are kept as explain `variance` of the sum of squares. Raises InputError for fewer than
    two clusters, or as many as there are tokens, and for routers that say the same of every token.
    """
    x = vectors.first - vectors.first.mean(0)
    if isinstance(k, bool) or not 2 <= k < len(x):
        raise InputError(
            f"{k!r} clusters of {len(x)} tokens: at least 2 and fewer than there are tokens were expected. Keep more "
            "tokens (router_vectors(..., first=...)), or ask for fewer clusters."
        )
    if not 0 < variance <= 1:
        raise InputError(
            f"variance = {variance!r}: the share to be kept was expected, above 0 and at most 1."
        )
    u, size, _ = np.linalg.svd(x, full_matrices=False)
    share = np.cumsum(size**2) / max(float((size**2).sum()), np.finfo(float).tiny)
    if not size[0] > 1e-12:
        raise InputError("The routers say the same of every token, so there is nothing to cluster.")
    components = int(np.searchsorted(share, variance * (1 - 1e-12)) + 1)
    kept = u[:, :components] * size[:components]
    length = np.linalg.norm(kept, axis=1, keepdims=True)
    cluster = spherical_kmeans(kept / np.where(length > 0, length, 1.0), k, seed=seed)
    token = np.unique(vectors.first_token, return_inverse=True)[1]
    counts = np.bincount(token * k + cluster, minlength=(token.max() + 1) * k).reshape(-1, k)
    said = float(mutual_information(counts.astype(np.float64), np.arange(len(counts)))[0])
    return TokenClusters(
        cluster, vectors.first_document, k, components, said, len(vectors.document)
    )


def spherical_kmeans(
    unit: Float[np.ndarray, "points dimensions"],
    k: int,
    *,
    seed: int = 0,
    starts: int = 4,
    rounds: int = 100,
) -> Int[np.ndarray, " points"]:
    """Clusters of points of unit length by the cosine with their cluster's mean direction (Dhillon & Modha 2001).

    The best of `starts` beginnings, each of k-means++ (Arthur & Vassilvitskii 2007) on 1 - cosine. An emptied
    cluster takes the point that fits its own worst.
    """
    best, fits = np.zeros(len(unit), dtype=np.int64), -np.inf
    for start in range(starts):
        draws = generator(seed, "spherical k-means", start)
        centre = _spread(unit, k, draws)
        cluster = np.full(len(unit), -1)
        for _ in range(rounds):
            cosine = unit @ centre.T
            now = cosine.argmax(1)
            if (now == cluster).all():
                break
            cluster = now
            fit = cosine[np.arange(len(unit)), cluster].copy()
            for empty in np.setdiff1d(np.arange(k), cluster):
                worst = int(fit.argmin())
                cluster[worst], fit[worst] = empty, np.inf
            sums = np.zeros_like(centre)
            np.add.at(sums, cluster, unit)
            length = np.linalg.norm(sums, axis=1, keepdims=True)
            centre = np.where(length > 0, sums / np.where(length > 0, length, 1.0), centre)
        total = float((unit * centre[cluster]).sum())
        if total > fits:
            best, fits = cluster, total
    return best


def _spread(
    unit: Float[np.ndarray, "points dimensions"], k: int, draws: np.random.Generator
) -> Float[np.ndarray, "k dimensions"]:
    chosen = [int(draws.integers(len(unit)))]
    away = 1 - unit @ unit[chosen[0]]
    for _ in range(k - 1):
        p = np.clip(away, 0, None)
        total = float(p.sum())
        chosen.append(
            int(draws.choice(len(unit), p=p / total) if total > 0 else draws.integers(len(unit)))
        )
        away = np.minimum(away, 1 - unit @ unit[chosen[-1]])
    return unit[chosen].copy()
