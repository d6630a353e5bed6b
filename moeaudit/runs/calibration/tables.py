"""From readings to tables: scores with and without a temperature, and what an intervention did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moeaudit.calibration.predictions.predictions import Predictions
from moeaudit.calibration.recalibrate.temperature.fit import TemperatureFit
from moeaudit.calibration.scores.intervals import mean_limits
from moeaudit.calibration.scores.points.binned import norms
from moeaudit.calibration.scores.resample import Resamples, widening
from moeaudit.calibration.scores.scores import calibration_scores
from moeaudit.calibration.scores.stratum import Stratum
from moeaudit.frames import Frame
from moeaudit.stats.least import DOCUMENTS_FOR_LIMITS

if TYPE_CHECKING:
    from .reading import Reading

IN, SHIFTED = "in domain", "shifted"
BETWEEN = "shifted minus in domain"
CLEAN = "clean"
METHODS = ("none", "temperature")
SCORES = (
    "gap",
    "accuracy",
    "confidence",
    "brier",
    "ece_mass_l1",
    "ece_debiased_documents",
    "smece",
    "kuiper_sigma",
)
# Compared with the clean model token by token; "loss" is the NLL of the token itself, nats.
PAIRED = ("gap", "accuracy", "confidence", "brier", "loss", "ece_mass_l1")
BINS = 15


@dataclass(frozen=True)
class Condition:
    """One model (clean or edited) on both sides, and the temperature fitted on third documents."""

    name: str
    sides: Mapping[str, Reading]
    fit: TemperatureFit

    def predictions(self, side: str, method: str) -> tuple[Predictions, np.ndarray]:
        """Predictions of a side grouped by domain, and each token's loss (nats)."""
        reading = self.sides[side]
        tokens = reading.tokens
        if method == "none":
            confidence = tokens["confidence"].to_numpy(np.float64)
            loss = tokens["nll"].to_numpy(np.float64)
        else:
            loss, confidence = reading.grid.at(self.fit.overall)
        p = Predictions(
            confidence=np.clip(confidence, 0.0, 1.0),
            correct=tokens["correct"].to_numpy(bool),
            group=tokens["domain"].to_numpy(dtype=object),
            document=documents_of(tokens, side),
        )
        return p, loss


def documents_of(tokens: Frame, side: str) -> np.ndarray:
    """Names of documents that cannot coincide between sides."""
    return np.array([f"{side}/{d}" for d in tokens["document"].tolist()])


def scores_table(conditions: list[Condition], draws: int, seed: int, level: float) -> Frame:
    """`calibration_scores` of every condition, side, method and domain; chosen scores only."""
    parts = []
    for condition in conditions:
        for side in condition.sides:
            for method in METHODS:
                p, _ = condition.predictions(side, method)
                table = calibration_scores(p, draws=draws, seed=seed, level=level)
                table = table[table["score"].isin(SCORES)]
                keys = {"condition": condition.name, "side": side, "method": method}
                parts.append(pd.DataFrame(table).assign(**keys))
    whole = pd.concat(parts, ignore_index=True)
    keys = ["condition", "side", "method"]
    return whole[[*keys, *(c for c in whole.columns if c not in keys)]]


def temperatures_table(conditions: list[Condition]) -> Frame:
    """Each condition's temperature, its loss on the fit documents (nats), and a remark."""
    return pd.concat(
        [c.fit.frame().iloc[:1].assign(condition=c.name) for c in conditions], ignore_index=True
    )[["condition", "n", "temperature", "nll_before", "nll_after", "reason"]]


def differences_table(conditions: list[Condition], draws: int, seed: int, level: float) -> Frame:
    """Each edited model minus the clean one on the same tokens, with intervals by documents.

    One row per (condition, side, stratum, method, score): clean, edited, difference, low, high, n,
    documents, reason; `whole` where the stratum is all domains. The side "shifted minus in domain" is
    the difference of the two sides' differences: whether the edit costs more where the model was not
    trained; its `clean` and `edited` are the clean and the edited model's own differences between the sides.
    """
    clean, rows = conditions[0], []
    for condition in conditions[1:]:
        for method in METHODS:
            whole: dict[str, dict[str, Any]] = {}
            for k, side in enumerate(condition.sides):
                pair = (clean.predictions(side, method), condition.predictions(side, method))
                resamples = Resamples(pair[0][0].n_documents, draws, seed + k)
                for stratum in (None, *pair[0][0].groups()):
                    found = _paired(pair, stratum, resamples, level)
                    keys = {"condition": condition.name, "side": side, **_stratum(stratum)}
                    rows += [{**keys, "method": method, **row} for row in found.values()]
                    if stratum is None:
                        whole[side] = found
            if len(whole) == 2:
                keys = {"condition": condition.name, "side": BETWEEN, **_stratum(None)}
                between = _between(whole[IN], whole[SHIFTED], level)
                rows += [{**keys, "method": method, **row} for row in between]
    columns = ["condition", "side", "stratum", "whole", "method", "score", "clean", "edited"]
    columns += ["difference", "low", "high", "n", "documents", "reason"]
    return pd.DataFrame(rows, columns=columns)


def _stratum(name: str | None) -> dict[str, Any]:
    """What a stratum is called in the tables; None is all of them, whatever a domain may be called."""
    return {"stratum": "all" if name is None else name, "whole": name is None}


def _paired(pair: Any, stratum: str | None, resamples: Resamples, level: float) -> dict[str, Any]:
    """Differences of one stratum by score, with their replicates under "replicates"."""
    (p, loss), (q, other) = pair
    inside = np.ones(len(p), bool) if stratum is None else p.group == stratum
    unit = resamples.unit_of[p.documents][inside]
    p, q = p.take(inside), q.take(inside)
    values = {
        "gap": (p.confidence - p.correct, q.confidence - q.correct),
        "accuracy": (p.correct.astype(float), q.correct.astype(float)),
        "confidence": (p.confidence, q.confidence),
        "brier": ((p.confidence - p.correct) ** 2, (q.confidence - q.correct) ** 2),
        "loss": (loss[inside], other[inside]),
    }
    n = np.bincount(unit, minlength=resamples.n_units)
    drawn = resamples.counts @ n
    few = p.n_documents < DOCUMENTS_FOR_LIMITS
    reason = (
        f"no limits: {p.n_documents} documents, fewer than {DOCUMENTS_FOR_LIMITS}" if few else None
    )
    out: dict[str, Any] = {}
    for score in PAIRED:
        if score == "ece_mass_l1":
            before, one = _ece(p, unit, resamples, level)
            after, two = _ece(q, unit, resamples, level)
            replicates = (two - one)[drawn > 0]
        else:
            first, second = values[score]
            before, after = float(first.mean()), float(second.mean())
            sums = np.bincount(unit, second - first, minlength=resamples.n_units)
            replicates = resamples.means(sums, n)
        row = {"score": score, "clean": before, "edited": after, "difference": after - before}
        low = high = np.nan
        if not few:
            wider = widening(min(p.n_documents, resamples.n_units), level)
            low, high = mean_limits(after - before, replicates, level, wider)
        row |= {"low": low, "high": high, "n": len(p), "documents": p.n_documents}
        out[score] = {**row, "reason": reason, "replicates": replicates}
    return out


def _ece(
    p: Predictions, unit: np.ndarray, resamples: Resamples, level: float
) -> tuple[float, np.ndarray]:
    """Plug-in ECE of equal mass, and of every resample of documents (bins stay as they are)."""
    stratum = Stratum("", p, unit, resamples, BINS, level, 0)
    norm = norms(stratum.cells)["ece_mass_l1"]
    mass, residual = stratum.shares
    value = float(norm.value(norm.features(mass, residual)))
    return value, norm.value(norm.features(*stratum.drawn))


def _between(home: dict[str, Any], away: dict[str, Any], level: float) -> list[dict[str, Any]]:
    """Shifted minus in-domain differences; the sides' documents are independent."""
    rows = []
    for score in PAIRED:
        a, b = home[score], away[score]
        value = b["difference"] - a["difference"]
        row: dict[str, Any] = {"score": score, "difference": value}
        row |= {name: b[name] - a[name] for name in ("clean", "edited")}
        row |= {name: a[name] + b[name] for name in ("n", "documents")}
        row["reason"] = a["reason"] or b["reason"]
        row["low"] = row["high"] = np.nan
        if row["reason"] is None:
            size = min(len(a["replicates"]), len(b["replicates"]))
            drawn = b["replicates"][:size] - a["replicates"][:size]
            wider = widening(min(a["documents"], b["documents"]), level)
            row["low"], row["high"] = mean_limits(value, drawn, level, wider)
        rows.append(row)
    return rows
