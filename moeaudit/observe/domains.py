r"""How much an expert, or a layer's choice of experts, says about the domain of the text.

One of a layer's slots is drawn at random; \(e\) is its expert and \(d\) the domain of its document.
\(p(d, e)\) is the share of slots. Everything is in nats.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64

from moeaudit.errors import InputError
from moeaudit.stats.domains.information import divergence, group_totals, permuted_information

from .grouping import Cells
from .trace import Trace


def domain_specialisation(trace: Trace, cells: Cells) -> Float[np.ndarray, " cells"]:
    r"""\(\sum_d p(d|e) \ln \frac{p(d|e)}{p(d)}\): what knowing the expert says about the domain.

    The Kullback-Leibler divergence of the domains of an expert's tokens from the domains of all
    tokens; 0 for an expert that all domains use alike. Averaged with the weights \(p(e)\) it is the
    mutual information that `domain_information` gives per layer. Rarely chosen experts score high
    by chance, so compare with that function's null. Null for experts no token chose, and
    everywhere if the trace has one domain only.
    """
    if len(trace.domains) < 2:
        return np.full(len(cells.layer), np.nan)
    table = _count_by(cells, _domain_of_rows(trace), len(trace.domains))  # [domains, cells]
    return divergence(table, group_totals(table, cells.layer))


def domain_information(trace: Trace, permutations: int = 200, seed: int = 0) -> pd.DataFrame:
    r"""Mutual information of expert and domain, per layer, against a document-permutation null.

    \(I = \sum_{d,e} p(d,e) \ln \frac{p(d,e)}{p(d) p(e)}\). The plug-in estimate is positive even
    where there is no relation, and tokens of one document are alike; the null therefore permutes
    the domain labels of whole documents, which keeps both.

    Returns:
        One row per layer: layer, mi, null_mean, null_q95, excess (mi - null_mean), p_value (share
        of permutations, the observed order included, with at least this mi), domains, documents.

    Raises:
        InputError: fewer than two domains, or no more documents than domains (no permutation can
            then differ from the observed labels in a way that means anything).
    """
    if permutations < 1:
        raise InputError(f"{permutations} permutations cannot make a null; expected at least 1.")
    documents = trace.tokens.groupby("document", sort=True)["domain"].first()
    labels = documents.cat.codes.to_numpy(np.int64)
    present = len(np.unique(labels))
    if present < 2 or len(labels) <= present:
        raise InputError(
            f"The trace has {len(labels)} documents in {present} domains. Mutual information with "
            "a permutation null needs at least two domains and more documents than domains."
        )
    cells = Cells.of(trace)
    document_of_row = np.searchsorted(
        documents.index.to_numpy(), trace.routing["document"].to_numpy()
    )
    counts = _count_by(cells, document_of_row, len(labels))  # [documents, cells]
    found = permuted_information(counts, labels, cells.layer, permutations=permutations, seed=seed)
    return pd.DataFrame(
        {
            "layer": np.unique(cells.layer),
            "mi": found.value,
            "null_mean": found.null_mean,
            "null_q95": found.null_95,
            "excess": found.value - found.null_mean,
            "p_value": found.p,
            "domains": present,
            "documents": len(labels),
        }
    )


def _domain_of_rows(trace: Trace) -> Int64[np.ndarray, " rows"]:
    by_document = trace.tokens.groupby("document")["domain"].first()
    place = np.searchsorted(by_document.index.to_numpy(), trace.routing["document"].to_numpy())
    return by_document.cat.codes.to_numpy(np.int64)[place]


def _count_by(
    cells: Cells, group: Int64[np.ndarray, " rows"], groups: int
) -> Float[np.ndarray, "groups cells"]:
    size = len(cells.layer)
    counts = np.bincount(group * size + cells.of_row, minlength=groups * size)
    return counts.reshape(groups, size).astype(np.float64)
