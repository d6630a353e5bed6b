r"""How wrong confidence can become when only the mix of routing configurations moves.

With pi_s the share of configuration s and g_s its mean of confidence - correct, the worst signed gap
over mixes q no further than KL(q || pi) <= rho is

    max_q sum_s q_s g_s

is an exponential tilt of pi (`worst_case_tilt`). A model that is calibrated on the
configurations' mix but not on each of them is safe today and not after a shift (arXiv 2606.20544).

Noise alone makes the worst case positive, since g_s is a mean of few documents. So it is always
compared with a null in which the configuration labels of whole documents are permuted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from moeaudit.errors import InputError
from moeaudit.seeds import generator

from ..predictions.predictions import Predictions
from .worst_case_tilt import check_radius, worst_mean, worst_means

RADII = (0.01, 0.05, 0.1, 0.5)


def worst_case(
    predictions: Predictions,
    configuration: Any,
    *,
    radii: Sequence[float | int] = RADII,
    within: Any = None,
    n_permutations: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """The worst signed gap over reweightings of routing configurations, against its null.

    Parameters
    ----------
    configuration
        The routing configuration of each prediction (a top-1 expert, a cluster of router vectors).
    within
        A label for each document's permutation stratum (its domain), one per prediction: labels
        are then only exchanged among documents of one stratum, and the null keeps what domains
        explain. One document may be in one stratum only.

    Returns one row per radius and direction (over: confidence above accuracy; under: below):
    gap (today's), worst, null_mean, null_high (95th percentile), excess (worst - null_mean), p,
    kl (nats), worst_configuration, worst_share (its share in the worst mix), n_configurations,
    n_documents, reason. p is the share of permutations whose worst case reaches the observed one,
    the observed among them.

    With one document or one configuration nothing can be permuted: the worst case is given, the
    null is not, and the reason says why. Raises InputError for a radius that is not positive.
    """
    for radius in radii:
        check_radius(radius)
    if len(configuration) != len(predictions):
        raise InputError(
            f"There are {len(configuration)} configurations for {len(predictions)} predictions."
        )
    names, code = np.unique(np.asarray(configuration).astype(str), return_inverse=True)
    order, blocks = _document_order(predictions, within)
    w = predictions.weights[order]
    residual = (predictions.confidence - predictions.correct)[order]
    code = code[order]
    reason = predictions.lack() or (
        "one configuration: there is no other mix" if len(names) < 2 else None
    )
    mass, gap = _shares(code, residual, w, len(names))
    observed = [worst_mean(mass, sign * gap, radius) for radius in radii for sign in (1, -1)]
    null = np.full((1, len(observed)), np.nan)
    if reason is None:
        null = _null(code, residual, w, len(names), blocks, radii, n_permutations, seed)
    today = float(np.average(residual, weights=w))
    rows = []
    for k, tilt in enumerate(observed):
        sign = 1 if k % 2 == 0 else -1
        have = null[:, k]
        reached = (1 + (have >= tilt.value - 1e-9).sum()) / (1 + len(have))
        p = reached if reason is None else np.nan
        most = int(np.argmax(tilt.mix))
        rows.append(
            {
                "radius": radii[k // 2],
                "direction": "over" if sign > 0 else "under",
                "gap": today,
                "worst": sign * tilt.value,
                "null_mean": sign * float(have.mean()),
                "null_high": sign * float(np.quantile(have, 0.95)),
                "excess": sign * (tilt.value - float(have.mean())),
                "p": float(p),
                "kl": tilt.kl,
                "worst_configuration": str(names[most]),
                "worst_share": float(tilt.mix[most]),
                "n_configurations": len(names),
                "n_documents": predictions.n_documents,
                "reason": reason,
            }
        )
    return pd.DataFrame(rows)


def _shares(
    code: np.ndarray, residual: np.ndarray, w: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Share and mean residual of each configuration (0 where it has no weight)."""
    total = np.bincount(code, w, minlength=n)
    sums = np.bincount(code, w * residual, minlength=n)
    gap = np.divide(sums, total, out=np.zeros(n), where=total > 0)
    return total / total.sum(), gap


def _null(
    code: np.ndarray,
    residual: np.ndarray,
    w: np.ndarray,
    n: int,
    blocks: list[list[np.ndarray]],
    radii: Sequence[float | int],
    n_permutations: int,
    seed: int,
) -> Float[np.ndarray, "permutations values"]:
    """Worst values (over and under, for each radius) with the labels of documents permuted."""
    rng = generator(seed, "configurations")
    mass, gap = np.empty((n_permutations, n)), np.empty((n_permutations, n))
    for k in range(n_permutations):
        mass[k], gap[k] = _shares(code[_permuted(blocks, rng)], residual, w, n)
    values = [worst_means(mass, sign * gap, radius) for radius in radii for sign in (1, -1)]
    return np.stack(values, axis=1)


def _document_order(
    predictions: Predictions, within: Any
) -> tuple[np.ndarray, list[list[np.ndarray]]]:
    """Rows sorted by stratum and document, and for each stratum the row ranges of its documents."""
    document = predictions.documents
    if within is None:
        stratum = np.zeros(len(document), dtype=np.int64)
    elif len(within) != len(document):
        raise InputError(f"There are {len(within)} strata for {len(document)} predictions.")
    else:
        stratum = pd.factorize(np.asarray(within))[0]
    pairs = pd.DataFrame({"d": document, "s": stratum}).drop_duplicates()
    if pairs["d"].duplicated().any():
        raise InputError(
            "Some documents are in more than one stratum of `within`. Whole documents are "
            "permuted, so each must belong to one."
        )
    order = np.lexsort((np.arange(len(document)), document, stratum))
    starts = np.flatnonzero(np.diff(document[order], prepend=-1))
    pieces = np.split(np.arange(len(order)), starts[1:])
    blocks: dict[int, list[np.ndarray]] = {}
    for piece in pieces:
        blocks.setdefault(int(stratum[order[piece[0]]]), []).append(piece)
    return order, list(blocks.values())


def _permuted(blocks: list[list[np.ndarray]], rng: np.random.Generator) -> np.ndarray:
    """Rows whose labels are laid over the rows 0, 1, ...: documents of a stratum in new order.

    The labels of a stratum are one stream, document after document. Documents change places in
    it, so that every label is used once and runs within a document stay together; documents of
    equal length exchange their labels exactly.
    """
    parts = []
    for documents in blocks:
        parts.extend(documents[k] for k in rng.permutation(len(documents)))
    return np.concatenate(parts)
