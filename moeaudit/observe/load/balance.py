"""How evenly a layer's experts are used: within documents, within micro-batches, over all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64

from moeaudit.errors import InputError

from ..grouping import Choices
from ..trace import Trace
from .sums import balances, normalised, sums


def load_balance(trace: Trace, *, micro: Any = None, seed: int = 0) -> pd.DataFrame:
    r"""Load balance of each layer at two scopes, or at all that arXiv 2501.11873 tells apart.

    \(B = E \sum_e f_e P_e\) with \(f_e\) the share of all choices that went to expert e (so \(\sum f = 1\))
    and \(P_e\) its mean routing weight, each token's chosen weights scaled to sum to 1. B is 1 when
    both are even and E when one expert takes everything. `sequence` computes B per document and
    averages over documents; `global` computes f and P over all tokens first. Documents that each
    use few experts, but different ones, are unbalanced by sequence and balanced globally: their
    ratio `separation` is 1 without such structure and grows with it.

    With `micro` two scopes more: `micro` averages B over micro-batches, \(\frac{1}{n} \sum_j E \sum_e f^j_e P^j_e\),
    each of so many documents in the order of the trace, as parallel groups of a training step would read
    them. `shuffled` is the same with all tokens dealt out anew to micro-batches of the same sizes (`seed`): the
    paper's control. Where it is near `global`, what sets `micro` apart is what the micro-batches
    hold, not how few tokens that is.

    Two things to know when comparing with training losses. The loss averages the router's whole
    distribution for P (`router_losses`), while a trace holds the chosen experts; the minimum, 1, is the same.
    And transformers' `load_balancing_loss_func` pools all layers and does not divide by k, so that it
    is k when balanced.

    Args:
        trace: what `capture` returned.
        micro: documents in a micro-batch, a whole number from 1; or "domain" for one of each domain.
        seed: of the control.

    Returns:
        One row per layer: layer, sequence, global, separation, busiest (largest share of tokens
        that choose one expert), cv (standard deviation over mean of the experts' counts),
        effective (exponential of the entropy of f: number of experts in even use), never (experts
        that no token chose), experts; with `micro` also micro, shuffled, batches (how many there are).

    Raises:
        InputError: `micro` that is no such number, larger than the number of documents, or "domain" where there
            is one domain.
    """
    batch_of = None if micro is None else batches_of(trace, micro)
    rng = np.random.default_rng(seed)
    rows = []
    for layer in trace.layers:
        size = trace.facts.num_experts[layer]
        choices = Choices.of(trace, layer)
        weight = normalised(choices.weight)
        document = np.unique(choices.document, return_inverse=True)[1].astype(np.int64)

        def mean_of(group: Int64[np.ndarray, " tokens"]) -> float:
            return float(np.mean(balances(*sums(group, choices.expert, weight, size))))  # noqa: B023

        counts, shares = sums(np.zeros_like(document), choices.expert, weight, size)
        overall, sequence = float(balances(counts, shares)[0]), mean_of(document)
        row: dict[str, Any] = {
            "layer": layer,
            "sequence": sequence,
            "global": overall,
            "separation": sequence / overall,
            "busiest": float(counts[0].max() / len(document)),
            "cv": float(counts[0].std() / counts[0].mean()),
            "effective": float(np.exp(_entropy(counts[0]))),
            "never": int((counts[0] == 0).sum()),
            "experts": size,
        }
        if batch_of is not None:
            batch = batch_of[document]
            row["micro"] = mean_of(batch)
            row["shuffled"] = mean_of(rng.permutation(batch))
            row["batches"] = int(batch.max()) + 1
        rows.append(row)
    return pd.DataFrame(rows)


def _entropy(counts: Float[np.ndarray, " experts"]) -> float:
    used = counts[counts > 0] / counts.sum()
    return float(-np.sum(used * np.log(used)))


def batches_of(trace: Trace, micro: Any) -> Int64[np.ndarray, " documents"]:
    """The micro-batch of each document, documents ascending."""
    documents = trace.tokens.groupby("document", sort=True)["domain"].first()
    if isinstance(micro, str) and micro == "domain":
        found = np.unique(documents.cat.codes.to_numpy(), return_inverse=True)[1].astype(np.int64)
        if found.max() == 0:
            raise InputError(
                f"micro='domain' needs at least two domains, and all documents of this trace are of "
                f"{str(documents.iloc[0])!r}. Give a number of documents, or capture further domains."
            )
        return found
    if not isinstance(micro, int) or isinstance(micro, bool) or not 1 <= micro <= len(documents):
        raise InputError(
            f"micro = {micro!r}: 'domain', or a number of documents from 1 to the {len(documents)} of this trace, was "
            "expected."
        )
    return np.arange(len(documents), dtype=np.int64) // micro
