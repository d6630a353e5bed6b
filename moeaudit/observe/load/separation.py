"""How much more even experts are used over all domains than within each: an index with a null by document."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64

from moeaudit.errors import InputError

from ..grouping import Choices
from ..trace import Trace
from .sums import normalised, sums


def domain_separation(trace: Trace, permutations: int = 199, seed: int = 0) -> pd.DataFrame:
    r"""Balance within domains over balance of all domains together, per layer, against permuted labels.

    One micro-batch of each domain, all of equal weight:
    \(\mathrm{micro} = \frac{1}{D} \sum_d E \sum_e f^d_e P^d_e\) and
    \(\mathrm{global} = E \sum_e \bar f_e \bar P_e\), with \(\bar f, \bar P\) the means over domains (f and P as in
    `load_balance`). `separation`, their ratio, is 1 where all domains use experts alike and D where they share none
    and each uses its own evenly. What is left of it by chance alone is told by dealing the domain labels out anew to
    whole documents: tokens of a document are alike, so a null of shuffled tokens would be too narrow.

    Two disjoint domains of two experts each: micro 2, global 1, separation 2 (arXiv 2501.11873, section 2).

    Returns:
        One row per layer: layer, micro, global, separation, null_mean, null_q95, excess (separation - null_mean),
        p_value (share of permutations, the observed order included, with at least this separation), domains,
        documents.

    Raises:
        InputError: fewer than two domains, no more documents than domains (no permutation then differs in a way
            that means anything), or no permutation asked for.
    """
    if permutations < 1:
        raise InputError(f"{permutations} permutations cannot make a null; expected at least 1.")
    documents = trace.tokens.groupby("document", sort=True)["domain"].first()
    labels = np.unique(documents.cat.codes.to_numpy(), return_inverse=True)[1].astype(np.int64)
    present = int(labels.max()) + 1
    if present < 2 or len(labels) <= present:
        raise InputError(
            f"The trace has {len(labels)} documents in {present} domain{'s' * (present > 1)}. Separation of domains "
            "with a null needs at least two domains and more documents than domains."
        )
    rng = np.random.default_rng(seed)
    orders = [labels, *(rng.permutation(labels) for _ in range(permutations))]
    rows = []
    for layer in trace.layers:
        choices = Choices.of(trace, layer)
        document = np.searchsorted(documents.index.to_numpy(), choices.document).astype(np.int64)
        counts, shares = sums(
            document, choices.expert, normalised(choices.weight), trace.facts.num_experts[layer]
        )
        found = np.array([_scopes(counts, shares, order) for order in orders])
        ratio = found[:, 0] / found[:, 1]
        null = ratio[1:]
        rows.append(
            {
                "layer": layer,
                "micro": found[0, 0],
                "global": found[0, 1],
                "separation": ratio[0],
                "null_mean": null.mean(),
                "null_q95": np.quantile(null, 0.95),
                "excess": ratio[0] - null.mean(),
                "p_value": (1 + (null >= ratio[0] * (1 - 1e-12)).sum()) / (1 + permutations),
                "domains": present,
                "documents": len(labels),
            }
        )
    return pd.DataFrame(rows)


def _scopes(
    counts: Float[np.ndarray, "documents experts"],
    shares: Float[np.ndarray, "documents experts"],
    label: Int64[np.ndarray, " documents"],
) -> tuple[float, float]:
    """Balance within labels, and of all labels together."""
    of = np.eye(int(label.max()) + 1)[label].T  # (labels, documents)
    f, p = of @ counts, of @ shares
    f, p = f / f.sum(axis=1, keepdims=True), p / p.sum(axis=1, keepdims=True)
    size = counts.shape[1]
    return float(size * (f * p).sum(axis=1).mean()), float(size * (f.mean(0) * p.mean(0)).sum())
