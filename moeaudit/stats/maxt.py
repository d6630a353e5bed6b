"""Sign-flips of whole documents: one test, and step-down max-T over a family of cells.

If the two experts of a pair are exchangeable, a document's summed difference is as likely to be
S as -S. Flipping a document flips it in every cell at once, so the flipped maxima carry the
dependence between cells that share tokens (Westfall & Young 1993; Romano & Wolf 2005).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ..errors import InputError
from .seeds import generator

EXACT_DOCUMENTS = 14  # 2^13 distinct flips up to the common sign: fewer than a sample would take


@dataclass(frozen=True)
class MaxT:
    """What the flips gave. `statistic` is T = sum(S) / sqrt(sum(S^2)) over documents, per cell.

    `p_flip` is the unadjusted two-sided p of each cell, `p_maxt` the step-down adjusted one,
    `critical` the (1 - alpha) quantile of max |T|. NaN where a cell has no nonzero document sum.
    """

    statistic: Float[np.ndarray, " cells"]
    p_flip: Float[np.ndarray, " cells"]
    p_maxt: Float[np.ndarray, " cells"]
    critical: float
    n_flips: int
    exact: bool


def document_sums(
    values: Float[np.ndarray, "tokens cells"],
    document: Int[np.ndarray, " tokens"],
    n_documents: int,
) -> Float[np.ndarray, "documents cells"]:
    """Sum each cell's values over the tokens of each document."""
    columns = [np.bincount(document, v, minlength=n_documents) for v in values.T]
    return np.stack(columns, axis=1)


def flips(n_documents: int, n_flips: int, seed: int) -> tuple[np.ndarray, bool]:
    """Signs (flips, documents) in {-1, +1} as int8, and whether they are all there are.

    The identity is always the first row. With at most `EXACT_DOCUMENTS` documents every pattern is
    listed once up to the common sign, which a two-sided statistic does not see.
    """
    if n_documents < 2:
        raise InputError(
            f"A sign-flip test needs at least 2 documents with effects; there is {n_documents}."
        )
    if n_documents <= EXACT_DOCUMENTS:
        pattern = np.arange(2 ** (n_documents - 1))[:, None] >> np.arange(n_documents) & 1
        return (1 - 2 * pattern).astype(np.int8), True
    rng = generator(seed, "flips")
    signs = rng.integers(0, 2, size=(n_flips + 1, n_documents), dtype=np.int8)
    signs[0] = 0
    return 1 - 2 * signs, False


def max_t(
    sums: Float[np.ndarray, "documents cells"],
    *,
    n_flips: int = 10_000,
    alpha: float = 0.05,
    seed: int = 0,
) -> MaxT:
    """Unadjusted and step-down max-T p-values for cells, from their document sums.

    T = sum(S) / sqrt(sum(S^2)); sum(S^2) does not change under flips, so |T| orders the flips as
    the documents' own |t| does. Step-down: with cells ordered by |T|, the adjusted p of a cell
    is the share of flips whose maximum over it and all lesser cells reaches its |T|, made monotone.
    Both count the identity among the flips, so that p is never 0 and the level holds exactly
    wherever document sums are symmetric about zero under the null.

    Parameters
    ----------
    sums
        High minus low summed over each document's tokens, zero where a document has none.
    n_flips
        Random flips beside the identity; ignored when all flips can be listed.
    """
    norm = np.sqrt((sums**2).sum(axis=0))
    usable = norm > 0
    p_flip = np.full(sums.shape[1], np.nan)
    p_maxt, statistic = p_flip.copy(), p_flip.copy()
    rows = (sums != 0).any(axis=1)
    if rows.sum() < 2 or not usable.any():
        return MaxT(statistic, p_flip, p_maxt, float("nan"), 0, False)
    signs, exact = flips(int(rows.sum()), n_flips, seed)
    scaled = (sums[rows][:, usable] / norm[usable]).astype(np.float64)
    flipped = _flipped(signs, scaled)  # (flips, cells)
    observed = np.abs(scaled.sum(axis=0))
    flipped[0] = observed
    # Flips that only differ by rounding are ties and must count as reached.
    reach = observed * (1 - 1e-9)
    p = (flipped >= reach).mean(axis=0)
    order = np.argsort(-observed, kind="stable")
    running = np.maximum.accumulate(flipped[:, order[::-1]], axis=1)[:, ::-1]
    adjusted = np.maximum.accumulate((running >= reach[order]).mean(axis=0))
    p_flip[usable] = p
    p_maxt[np.flatnonzero(usable)[order]] = adjusted
    statistic[usable] = scaled.sum(axis=0)
    critical = float(np.quantile(running[:, 0], 1 - alpha, method="higher"))
    return MaxT(statistic, p_flip, p_maxt, critical, len(signs), exact)


def _flipped(signs: np.ndarray, scaled: np.ndarray, block: int = 2000) -> np.ndarray:
    """|signs @ scaled| in blocks of flips, so that float64 copies of the signs stay small."""
    parts = [
        np.abs(signs[i : i + block].astype(np.float64) @ scaled)
        for i in range(0, len(signs), block)
    ]
    return np.concatenate(parts)


def sign_flip_p(
    sums: Float[np.ndarray, " documents"], *, n_flips: int = 10_000, seed: int = 0
) -> float:
    """Two-sided p of one cell by document sign-flips, exact up to `EXACT_DOCUMENTS` documents."""
    return float(max_t(sums[:, None], n_flips=n_flips, seed=seed).p_flip[0])


def step_down(z: np.ndarray, null: list[np.ndarray]) -> np.ndarray:
    """Step-down max-T p of statistics z from draws of each one's null (draws aligned over cells).

    For nulls that are not sign-flips; the observed statistic counts as one more draw.
    """
    out = np.full(len(z), np.nan)
    usable = np.flatnonzero(~np.isnan(z))
    if len(usable) == 0:
        return out
    order = usable[np.argsort(-z[usable], kind="stable")]
    draws = np.stack([null[i] for i in order], axis=1)  # (draws, cells), most extreme cell first
    running = np.maximum.accumulate(draws[:, ::-1], axis=1)[:, ::-1]
    p = (1 + (running >= z[order] - 1e-12).sum(axis=0)) / (1 + len(draws))
    out[order] = np.maximum.accumulate(p)
    return out
