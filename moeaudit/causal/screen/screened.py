"""What `screen` returns: the estimates, and how far they agree with exact removals."""

from __future__ import annotations

import html
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

_BOOT = 1000
MEASURES = ("pearson", "spearman", "sign")


@dataclass(frozen=True, repr=False)
class Screened:
    """First-order estimates of every removal, with their measured agreement.

    `table`: document, position, layer, rank, expert, weight, estimate (nats, of `delta_nll` on the
    token's own prediction). `exact`: the sampled rows with `delta_nll`, `kl`, `flip` beside the
    estimate. `agreement`: layer ("all" or a number), measure, value, low, high, rows, documents.
    """

    table: pd.DataFrame
    exact: pd.DataFrame
    agreement: pd.DataFrame
    model: str
    method: str
    level: float
    notes: tuple[str, ...] = ()

    def experts(self) -> pd.DataFrame:
        """Estimated expected harm: the sum over an expert's tokens, divided by all tokens.

        Columns layer, expert, estimate (nats a token), n_active. Experts no token chose are absent.
        """
        tokens = len(self.table[["document", "position"]].drop_duplicates())
        grouped = self.table.groupby(["layer", "expert"])["estimate"].agg(["sum", "size"])
        frame = grouped.reset_index().rename(columns={"size": "n_active"})
        frame.insert(2, "estimate", frame.pop("sum") / tokens)
        return frame

    def _overall(self) -> str:
        rows = self.agreement[self.agreement["layer"] == "all"].set_index("measure")
        parts = [
            f"{name} {rows.loc[name, 'value']:.3f} [{rows.loc[name, 'low']:.3f}, "
            f"{rows.loc[name, 'high']:.3f}]"
            for name in MEASURES
        ]
        first = rows.iloc[0]
        return (
            f"agreement with {int(first['rows']):,} exact removals in {int(first['documents'])} "
            f"documents: {', '.join(parts)} ({self.level:.0%} intervals over documents)"
        )

    def __repr__(self) -> str:
        return (
            f"First-order screen of {self.model}: {len(self.table):,} removals estimated by "
            f"{self.method}; {self._overall()}. The estimate is of delta NLL of the token's own "
            "next-token prediction when the slot's weight is set to zero."
        )

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        return (
            f"<p>{html.escape(repr(self))}</p>"
            + self.agreement.to_html(index=False, float_format=lambda v: f"{v:.3f}")
            + (f"<ul>{notes}</ul>" if notes else "")
        )


def agreement(joined: pd.DataFrame, *, seed: int, level: float) -> pd.DataFrame:
    """Pearson, Spearman and agreement of sign of `estimate` and `delta_nll`, pooled and by layer.

    Intervals are percentiles over resampled documents (null with fewer than two). Ranks are those
    in the whole sample. Sign: share of rows whose signs agree, rows with an exact zero left out.
    """
    documents, of_row = np.unique(joined["document"], return_inverse=True)
    weights = np.ones((1, len(documents)))
    if len(documents) > 1:
        from moeaudit.stats.sizes.bootstrap import document_weights

        weights = np.vstack([weights, document_weights(len(documents), _BOOT, seed)])
    estimate = joined["estimate"].to_numpy(np.float64)
    exact = joined["delta_nll"].to_numpy(np.float64)
    layer = joined["layer"].to_numpy()
    rows = []
    for name in ["all", *np.unique(layer).tolist()]:
        at = np.ones(len(layer), bool) if name == "all" else layer == name
        x, y, of = estimate[at], exact[at], of_row[at]
        n = len(np.unique(of))
        for measure, values in zip(MEASURES, _replicates(x, y, of, weights)):
            low, high = np.nan, np.nan
            finite = values[1:][np.isfinite(values[1:])]
            if n > 1 and len(finite):
                low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
            rows.append((str(name), measure, values[0], low, high, int(at.sum()), n))
    columns = ["layer", "measure", "value", "low", "high", "rows", "documents"]
    return pd.DataFrame(rows, columns=columns)


def _replicates(
    x: Float[np.ndarray, " rows"],
    y: Float[np.ndarray, " rows"],
    of: np.ndarray,
    weights: Float[np.ndarray, "sets documents"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from scipy.stats import rankdata

    known = (x != 0) & (y != 0)
    agree = np.bincount(of[known], (np.sign(x) == np.sign(y))[known], weights.shape[1])
    count = np.bincount(of[known], minlength=weights.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        sign = (weights @ agree) / (weights @ count)
    return (
        _pearson(x, y, of, weights),
        _pearson(rankdata(x), rankdata(y), of, weights),
        sign,
    )


def _pearson(
    x: Float[np.ndarray, " rows"],
    y: Float[np.ndarray, " rows"],
    of: np.ndarray,
    weights: Float[np.ndarray, "sets documents"],
) -> Float[np.ndarray, " sets"]:
    """Correlation under document weights, from the documents' moments."""
    x, y = x - x.mean(), y - y.mean()
    columns = (np.ones_like(x), x, y, x * x, y * y, x * y)
    sums = np.stack([np.bincount(of, c, weights.shape[1]) for c in columns], 1)
    n, sx, sy, sxx, syy, sxy = (weights @ sums).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return (sxy - sx * sy / n) / np.sqrt((sxx - sx**2 / n) * (syy - sy**2 / n))
