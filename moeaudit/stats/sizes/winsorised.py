"""d_z of winsorised differences: what it is without the few tokens that carry the variance.

The lowest and the highest 5 % of the differences are set to the next value inwards (Tukey 1962; Wilcox,
Introduction to Robust Estimation, 2012, ch. 3), and mean and deviation are taken of the result.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

SHARE = 0.05  # of the tokens, a side
NAME = "winsorised_d_z"
BLOCK = 1 << 22  # numbers held at once


class Winsorised:
    """A cell's differences in rising order, and their documents. `n_documents` codes from 0 on."""

    def __init__(
        self,
        document: Int[np.ndarray, " tokens"],
        difference: Float[np.ndarray, " tokens"],
        n_documents: int,
    ) -> None:
        order = np.argsort(difference, kind="stable")
        self.value, self.document = difference[order], document[order]
        self.n_documents = n_documents

    def values(
        self, weights: Float[np.ndarray, "sets documents"] | None = None
    ) -> Float[np.ndarray, " sets"]:
        """The size under document weights, as if each document were there that many times."""
        if weights is None:
            weights = np.ones((1, self.n_documents))
        step = max(1, BLOCK // max(1, len(self.value)))
        parts = [self._some(weights[i : i + step]) for i in range(0, len(weights), step)]
        return np.concatenate(parts)

    def _some(self, weights: np.ndarray) -> np.ndarray:
        w = weights[:, self.document]
        up_to, n = np.cumsum(w, axis=1), w.sum(axis=1)
        gone = np.floor(SHARE * n)
        # The smallest value with more than `gone` at or below it, and the largest with as many above.
        low = self.value[(up_to > gone[:, None]).argmax(axis=1)]
        high = self.value[(up_to >= (n - gone)[:, None]).argmax(axis=1)]
        x = np.clip(self.value, low[:, None], high[:, None])
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = (w * x).sum(axis=1) / n
            spread = np.sqrt((w * (x - mean[:, None]) ** 2).sum(axis=1) / (n - 1))
            return np.where(spread > 0, mean / spread, np.nan)

    @cached_property
    def left_out(self) -> Float[np.ndarray, " documents"]:
        """The size with each document that holds tokens left out, in the order of documents.

        Equals `values` of weights 0 and 1, in time tokens + documents * log tokens: the k-th of what
        is left is found from the places of what is not, and sums come from running totals.
        """
        value, n = self.value, len(self.value)
        centre = float(value.mean())  # keeps the variance exact where a mean is large
        x = value - centre
        one, two = (np.concatenate([[0.0], np.cumsum(v)]) for v in (x, x * x))
        places = np.argsort(self.document, kind="stable")  # by document, rising inside each
        counts = np.bincount(self.document, minlength=self.n_documents)
        out, start = [], 0
        for size in counts[counts > 0]:
            mine = places[start : start + size]
            start += size
            kept = n - size
            gone = int(np.floor(SHARE * kept))
            free = mine - np.arange(size)  # how many of what is kept stand before each
            first, last = (
                int(k + np.searchsorted(free, k, side="right")) for k in (gone, kept - gone - 1)
            )
            inside = mine[(mine >= first) & (mine <= last)]
            own = x[inside]
            a = one[last + 1] - one[first] - own.sum() + gone * (x[first] + x[last])
            b = two[last + 1] - two[first] - (own * own).sum()
            b += gone * (x[first] ** 2 + x[last] ** 2)
            variance = max(b - a * a / kept, 0.0) / (kept - 1) if kept > 1 else 0.0
            out.append((a / kept + centre) / np.sqrt(variance) if variance > 0 else np.nan)
        return np.array(out)

    @property
    def influence(self) -> Float[np.ndarray, " documents"]:
        """What each document adds, as the change when it is left out: a quantile has no derivative."""
        out = np.zeros(self.n_documents)
        left = self.left_out
        out[np.bincount(self.document, minlength=self.n_documents) > 0] = left.mean() - left
        return out
