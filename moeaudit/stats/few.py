"""Too few documents to say: what a verdict needs, read from the data and not from a count alone.

Sign-flips and limits are right for many documents, or for few that are like each other. Where a few
tokens or documents carry everything, or effects go with length, a small sample mostly lacks what would
contradict it, so it looks clear and is wrong. Each limit was measured on audits without any effect
(docs/methods/validity.md); the least numbers stand in `least`.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Num

from .least import (
    CARRIERS,
    DOCUMENTS_FOR_VERDICT,
    DOCUMENTS_WORTH,
    WORTH_IF_LEANING,
    WORTH_IF_LINKED,
)

LINKED_P = 0.05
LINKED_P_OF_FEW = (
    0.2  # below a verdict's documents' worth, where a test of lengths has little power
)
LEAN = 0.1


def too_few(
    sums: Num[np.ndarray, " documents"],
    tokens: Num[np.ndarray, " documents"],
    *,
    carriers: float | None = None,
    lean: float | None = None,
    p_lengths: float = float("nan"),
) -> str | None:
    """Why these documents are too few for a verdict, or None.

    Parameters
    ----------
    sums
        Of the effect over each document's tokens (or whatever is added up), in any unit.
    tokens
        Tokens of each document (or its weight); documents with none are not counted.
    carriers, lean
        `carriers` and `lean` of the effects by token, where these are known.
    p_lengths
        p that documents' mean effects go with their lengths (`sizes.lengths.p_lengths`).
    """
    use = np.asarray(tokens) > 0
    total, count = np.asarray(sums, float)[use], np.asarray(tokens, float)[use]
    d = len(count)
    if d < DOCUMENTS_FOR_VERDICT:
        return f"{d} documents, and a verdict needs {DOCUMENTS_FOR_VERDICT}"
    worth = kish(count)
    if worth < DOCUMENTS_WORTH:
        return f"tokens are so unevenly spread that {d} documents count as fewer than {DOCUMENTS_WORTH:g}"
    if carriers is not None and not carriers >= CARRIERS:
        return (
            f"few tokens carry the effects: they count as fewer than {CARRIERS}, and what a sample "
            "lacks of the rest would decide"
        )
    added = total - count * total.sum() / count.sum()
    if added.any() and participation(added) < DOCUMENTS_WORTH:
        return f"few documents carry the effects: they count as fewer than {DOCUMENTS_WORTH:g}"
    linked = LINKED_P_OF_FEW if worth < DOCUMENTS_FOR_VERDICT else LINKED_P
    if p_lengths <= linked and worth < WORTH_IF_LINKED:
        return (
            f"effects go with the length of documents, and lengths leave fewer than {WORTH_IF_LINKED:g} "
            "documents' worth: the longest ones decide"
        )
    if lean is not None and lean > LEAN and worth < WORTH_IF_LEANING:
        return f"effects lean to one side, and lengths leave fewer than {WORTH_IF_LEANING:g} documents' worth"
    return None


def kish(weights: Float[np.ndarray, " n"]) -> float:
    """(sum w)^2 / (sum of w^2): how many equal weights these are worth (Kish 1965)."""
    return float(weights.sum() ** 2 / max((weights**2).sum(), 1e-300))


def participation(values: Float[np.ndarray, " n"]) -> float:
    """Kish's number of the magnitudes: how many values carry the whole; 0.64 n for normal ones."""
    return kish(np.abs(values))


def carriers(values: Float[np.ndarray, " tokens"]) -> float:
    """How many tokens carry the effects: `participation` about the median, so that a common shift of
    tokens where nothing happens does not count."""
    return participation(values - np.median(values)) if len(values) else 0.0


def lean(values: Float[np.ndarray, " tokens"]) -> float:
    """|mean - median| / deviation, the nonparametric skew: 0 if symmetric, .30 for log-normal values of
    skewness 6. Tails do not blow it up as they do the moment (Hotelling & Solomons 1932: at most 1)."""
    spread = float(np.std(values)) if len(values) else 0.0
    return float(abs(values.mean() - np.median(values)) / spread) if spread > 0 else 0.0
