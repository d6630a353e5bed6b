"""Modularity: do texts of one kind use experts of their own? Scores of EMO (arXiv 2605.06663), each with its null."""

from .clusters import TokenClusters as TokenClusters
from .clusters import spherical_kmeans as spherical_kmeans
from .clusters import token_clusters as token_clusters
from .scores import modularity_scores as modularity_scores
from .vectors import RouterVectors as RouterVectors
from .vectors import router_mean as router_mean
from .vectors import router_vectors as router_vectors

__all__ = [
    "RouterVectors",
    "TokenClusters",
    "modularity_scores",
    "router_mean",
    "router_vectors",
    "spherical_kmeans",
    "token_clusters",
]
