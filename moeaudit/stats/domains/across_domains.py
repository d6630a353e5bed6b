"""`across_domains`: the domains of a cell put together, and what they say of a domain not seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moeaudit.frames import Frame

from ..contrast.checks import as_frame
from ..families.families import adjust
from ..nullable import nullable
from ..ranking.table import QUESTION as ACROSS
from .by_domain import COLUMNS as ESTIMATES
from .heterogeneity import Heterogeneity, heterogeneity
from .values import MEASURED

KEYS = ["question", "outcome", "metric", "role", "layer"]
META = ["q", "p_q", "p", "i2", "tau2", "mean", "mean_low", "mean_high", "p_mean"]
COLUMNS = [
    *(*KEYS, "whole", "n_domains", "n_left_out"),
    *("q", "p_q", "p", "p_holm", "i2", "tau2"),
    *("mean", "mean_low", "mean_high", "p_mean", "p_mean_holm", "new_low", "new_high"),
    *("n_other_sign", "least", "least_domain", "most", "most_domain"),
    *("without_least", "without_least_domain", "without_most", "without_most_domain"),
    *(*MEASURED, "reason"),
]
TEXT = [
    *("least_domain", "most_domain", "without_least_domain", "without_most_domain"),
    "reason",
]
LARGEST = 0.999  # a rank correlation of 1 in one domain has no Fisher z


def across_domains(estimates: Any, level: float | int = 0.95) -> Frame:
    """What the rows of `by_domain` say together: one row per question, outcome, metric and layer.

    Parameters
    ----------
    estimates
        Tables of `by_domain`, one or several outcomes under each other.
    level
        Of all limits.

    Returns
    -------
    `q`, `i2`, `tau2`: how far domains differ (`heterogeneity`); `p` by Welch's test, `p_holm` corrected over
    the metrics of the question and outcome (each control is a family of its own), `p_q` without regard
    to the few documents of a domain. `mean` with limits takes the domains as the sample, `p_mean_holm`
    its corrected p; `new_low` and `new_high` hold the true value of a new domain of their kind (95 %). Rank
    correlations are put together as Fisher's z, and given back as correlations (`tau2` stays in z).

    `whole` is the estimate over all documents; `n_other_sign` domains have another sign than it
    has. `least` to `most_domain`: the range over domains. `without_...`: the range that `whole` takes
    with one domain left out, and which one that is. `elsewhere` and `here`: the mean over domains by
    metrics from other domains, and from the same. Fewer than 3 domains with an estimate: null, with a
    `reason`.

    Raises
    ------
    InputError
        For what is no table, and columns that are missing.
    """
    table: Frame = as_frame(estimates, ESTIMATES, "The table of estimates by domain")
    grouped = table.groupby(KEYS, sort=False, observed=True)
    out: Frame = pd.DataFrame(
        [dict(zip(KEYS, key)) | _cell(part, level) for key, part in grouped], columns=COLUMNS
    )
    family = np.where(out["role"] == "metric", "metric", out["metric"])
    for _, rows in out.groupby(["question", "outcome", family], sort=False).groups.items():
        for name in ("p", "p_mean"):
            out.loc[rows, f"{name}_holm"] = adjust(out.loc[rows, name].to_numpy(float), "holm")
    numbers = [c for c in COLUMNS if c not in (*KEYS, *TEXT)]
    out[numbers] = out[numbers].astype("float64")
    return nullable(out, ("n_domains", "n_left_out", "n_other_sign"), TEXT)


def _cell(part: Frame, level: float | int) -> dict[str, Any]:
    values = {
        c: part[c].to_numpy(np.float64, na_value=np.nan)
        for c in ("estimate", "se", "dof", "whole", "without", *MEASURED)
    }
    ranks = str(part["question"].iloc[0]) == ACROSS
    found = _put_together(values, level, ranks)
    known = np.isfinite(values["estimate"])
    whole = float(values["whole"][0])
    row: dict[str, Any] = {
        "whole": whole,
        "n_domains": found.k,
        "n_left_out": len(part) - found.k,
        "reason": found.reason,
        "new_low": _back(found.new_low, ranks),
        "new_high": _back(found.new_high, ranks),
    }
    for name in META:
        value = getattr(found, name)
        row[name] = _back(value, ranks) if name.startswith("mean") else value
    if known.any():
        sign = np.sign(whole if np.isfinite(whole) else values["estimate"][known].mean())
        row["n_other_sign"] = int((np.sign(values["estimate"][known]) == -sign).sum())
    domain = part["domain"].astype(str).to_numpy()
    row |= _range(values["estimate"], domain, "least", "most")
    row |= _range(values["without"], domain, "without_least", "without_most")
    both = known.copy()
    for kind in MEASURED:
        both &= np.isfinite(values[kind]) | ~np.isfinite(values[kind]).any()
    for kind in MEASURED:  # over the same domains, so that the two can be compared
        row[kind] = float(values[kind][both].mean()) if both.any() else np.nan
    return row


def _put_together(values: dict[str, np.ndarray], level: float | int, ranks: bool) -> Heterogeneity:
    """Rank correlations as Fisher's z, whose standard error is that of r over 1 - r^2."""
    y, se = values["estimate"], values["se"]
    if ranks:
        r = np.clip(y, -LARGEST, LARGEST)
        y, se = np.arctanh(r), se / (1 - r**2)
    return heterogeneity(y, se, values["dof"], level)


def _back(value: float, ranks: bool) -> float:
    return float(np.tanh(value)) if ranks else value


def _range(values: np.ndarray, domain: np.ndarray, low: str, high: str) -> dict[str, Any]:
    if not np.isfinite(values).any():
        return {}
    least, most = int(np.nanargmin(values)), int(np.nanargmax(values))
    return {
        low: float(values[least]),
        f"{low}_domain": str(domain[least]),
        high: float(values[most]),
        f"{high}_domain": str(domain[most]),
    }
