r"""How far texts of one kind have experts of their own: four scores, each against documents that trade labels.

EMO (Wang, Bhagia & Min, arXiv 2605.06663) reports them without a null. Few experts, long documents or few
documents give values that look modular by chance, so a score is read against its null, never alone.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from moeaudit.errors import InputError
from moeaudit.seeds import check_seed, generator

from .clusters import token_clusters
from .vectors import RouterVectors

LESS, MORE = -1, 1  # which way a score points when texts are more apart


def modularity_scores(
    vectors: RouterVectors, *, permutations: int = 199, clusters: int = 32, seed: int = 0
) -> pd.DataFrame:
    """Scores of modularity by layer, each with its null.

    topic_cosine: mean cosine between the mean router vectors of two domains (a domain's vector is the mean over its
    documents); lower is more modular. coverage: experts whose mean probability in a domain is above 1/E, a mean over
    domains; lower is more modular. entropy: bits of a document's selection frequencies, a mean over documents;
    lower is more modular. cluster_information: nats that a token's cluster (`token_clusters`) says of the domain; one
    row, layer -1, higher is more modular.

    Null: domains are dealt out anew among documents, `permutations` times; for entropy, whose value knows no
    domain, the document labels among the tokens (each with all its picks). `p` is the share of permutations,
    the observed order included, that are at least as modular.

    Returns columns layer, score, value, null_mean, null_low, null_high (central 95 %), p, documents, domains.
    Raises InputError for documents of one domain, for fewer than two documents in every domain (nothing could trade
    places within), and for fewer than 19 permutations.
    """
    check_seed(seed)
    code, domains = require_domains(vectors)
    if isinstance(permutations, bool) or permutations < 19:
        raise InputError(
            f"permutations = {permutations!r}: at least 19 were expected, with which p can reach 0.05."
        )
    deal = generator(seed, "modularity: domains")
    dealt = np.stack([code, *(deal.permutation(code) for _ in range(permutations))])
    rows = []
    for layer in vectors.layers:
        mean = vectors.mean[layer]
        for name, score in (("topic_cosine", _cosine), ("coverage", _coverage)):
            values = np.array([score(_of_domains(mean, each, len(domains))) for each in dealt])
            rows.append({"layer": layer, "score": name} | _against(values, LESS))
        entropies = _entropies(vectors, layer, permutations, seed)
        rows.append({"layer": layer, "score": "entropy"} | _against(entropies, LESS))
    found = token_clusters(vectors, k=clusters, seed=seed)
    values = np.array([found.information(each) for each in dealt])
    rows.append({"layer": -1, "score": "cluster_information"} | _against(values, MORE))
    table = pd.DataFrame(rows)
    return table.assign(documents=len(code), domains=len(domains))


def require_domains(vectors: RouterVectors) -> tuple[Int[np.ndarray, " documents"], list[str]]:
    """Each document's domain as a number, and the names. Raises InputError where there is nothing to compare."""
    names, code = np.unique(np.array(vectors.domain), return_inverse=True)
    if len(names) < 2:
        raise InputError(
            f"All {len(code)} documents are of one domain ({names[0] or 'unnamed'}), and modularity compares domains. "
            "Give documents of at least two: ma.corpus(...), or documents with a domain each."
        )
    if np.bincount(code).max() < 2:
        raise InputError(
            f"Each of the {len(names)} domains has one document, so what is of the domain and what is of the document "
            "cannot be told apart. Give at least two documents of a domain."
        )
    return code, [str(name) for name in names]


def _of_domains(
    mean: Float[np.ndarray, "documents experts"], code: Int[np.ndarray, " documents"], count: int
) -> Float[np.ndarray, "domains experts"]:
    member = np.eye(count)[code]  # (documents, domains)
    return (member.T @ mean) / member.sum(0)[:, None]


def _cosine(vectors: Float[np.ndarray, "domains experts"]) -> float:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    upper = np.triu_indices(len(unit), 1)
    return float((unit @ unit.T)[upper].mean())


def _coverage(vectors: Float[np.ndarray, "domains experts"]) -> float:
    return float((vectors > 1 / vectors.shape[1]).sum(1).mean())


def _entropies(
    vectors: RouterVectors, layer: int, permutations: int, seed: int
) -> Float[np.ndarray, " orders"]:
    """The mean entropy of documents' selection frequencies in bits, observed first, then of dealt labels."""
    picks, experts = vectors.chosen[layer], vectors.mean[layer].shape[1]
    documents, draws = len(vectors.document), generator(seed, "modularity: tokens", layer)

    def of(label: Int[np.ndarray, " tokens"]) -> float:
        cell = (label[:, None] * experts + picks).reshape(-1)
        counts = np.bincount(cell, minlength=documents * experts).reshape(documents, experts)
        p = counts / counts.sum(1, keepdims=True)
        terms = np.where(p > 0, p * np.log2(np.where(p > 0, p, 1.0)), 0.0)
        return float(-terms.sum(1).mean())

    label = vectors.token_document
    return np.array([of(label), *(of(draws.permutation(label)) for _ in range(permutations))])


def _against(values: Float[np.ndarray, " orders"], way: int) -> dict[str, float]:
    """The observed value (the first) beside the others."""
    null = values[1:]
    room = 1e-12 * np.abs(values[0])  # rounding parts no ties
    reached = int((way * null >= way * values[0] - room).sum())
    low, high = np.quantile(null, [0.025, 0.975])
    return {
        "value": float(values[0]),
        "null_mean": float(null.mean()),
        "null_low": float(low),
        "null_high": float(high),
        "p": (1 + reached) / len(values),
    }
