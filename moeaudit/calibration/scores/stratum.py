"""One stratum's scores: values, limits, nulls. The rows of the table are made here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from moeaudit.stats.least import DOCUMENTS_FOR_LIMITS

from ..predictions.cells import Cells, cells_of
from ..predictions.predictions import Predictions
from .intervals import Norm, mean_limits, nearly, norm_limits, reached
from .null import null_residuals
from .points import binned
from .points.debiased import clipped_root, debiased_squared, document_squared
from .points.gap import MEANS, expected_losses, means, signed_gap, unit_sums
from .points.kuiper import CumulativeNorm, kuiper, kuiper_sigma, range_p
from .points.smooth import SmoothNorm, smooth_ece
from .rare import Events, correlation, drawn_sums, events_of
from .rare_limits import gap_limits, rate_limits
from .resample import Resamples, combine, widening

# Fewer documents than this give no limits: there are too few different resamples of them.
FEW = "{}: limits are Clopper and Pearson's, documents' p is by drawn outcomes"
INFINITE = "infinite: {:,} prediction(s) gave probability 0 to what happened"


@dataclass(frozen=True)
class Stratum:
    """The predictions of one stratum beside the resamplings of the whole table."""

    name: Any
    p: Predictions
    unit: Int[np.ndarray, " n"]
    resamples: Resamples
    bins: int
    level: float
    stream: int
    whole: Stratum | None = None  # the table it is a part of, which knows more of the documents

    @cached_property
    def cells(self) -> Cells:
        return cells_of(self.p, self.bins)

    @cached_property
    def wider(self) -> float:
        return widening(self.p.counted_documents, self.level)

    @cached_property
    def events(self) -> Events:
        """How many errors and right answers there are."""
        return events_of(self.p)

    @cached_property
    def correlation(self) -> float:
        """Of outcomes within a document, for the null where errors are rare."""
        return correlation(self.p) if self.whole is None else self.whole.correlation

    @cached_property
    def _sums(self) -> list[Any]:
        """Units x cells: weight, and weight x correct."""
        w, place = self.p.weights, self.cells.place
        return [
            self.resamples.sums(self.unit, place, x, len(self.cells))
            for x in (w, w * self.p.correct)
        ]

    @cached_property
    def drawn(self) -> tuple[Float[np.ndarray, "draws cells"], Float[np.ndarray, "draws cells"]]:
        """Shares of weight and of residual by cell in every document resample."""
        mass, right = (combine(self.resamples.counts, s) for s in self._sums)
        total = mass.sum(axis=1, keepdims=True)
        total = np.where(total > 0, total, np.inf)  # no document of the stratum was drawn
        return mass / total, (mass * self.cells.centre.astype(np.float32) - right) / total

    @cached_property
    def flipped(self) -> Float[np.ndarray, "draws cells"]:
        """Shares of residual where whole documents' residuals have changed sign.

        Where errors are rare signs cannot be turned: outcomes are drawn, tied within documents.
        """
        if self.events.rare:
            at = (np.arange(len(self.p)), self.cells.place)
            shape = (len(self.p), len(self.cells))
            members = sparse.csr_array((np.ones(len(self.p)), at), shape=shape)
            rng = self.resamples.generator(7, self.stream)
            sums = drawn_sums(self.p, members, self.correlation, self.resamples.draws, rng)
            return (sums / self.p.weights.sum()).astype(np.float32)
        mass, right = self._sums
        centre = self.cells.centre.astype(np.float32)
        residual = mass * centre - right
        return combine(self.resamples.signs, residual) / np.float32(self.p.weights.sum())

    @cached_property
    def null(self) -> Float[np.ndarray, "draws cells"]:
        """Shares of residual where outcomes are drawn from the confidences."""
        rng = self.resamples.generator(4, self.stream)
        residual = null_residuals(self.p, self.cells, self.resamples.draws, rng)
        return residual / np.float32(self.p.weights.sum())

    @cached_property
    def shares(self) -> tuple[Float[np.ndarray, " cells"], Float[np.ndarray, " cells"]]:
        """Shares of weight and of residual as observed."""
        total = self.cells.mass.sum()
        return self.cells.mass / total, self.cells.residual / total

    @cached_property
    def rare_means(self) -> dict[str, tuple[float, float]]:
        """Limits of gap, confidence and accuracy that hold where errors are rare."""
        p = self.p
        own = float(np.average(p.confidence, weights=p.weights)), signed_gap(p)
        drawn = self._replicates
        kept = drawn[np.isfinite(drawn[:, 1]), 1]
        confidence = mean_limits(own[0], kept, self.level, self.wider)
        accuracy = rate_limits(p.correct, p.weights, p.documents, self.level)
        right = own[0] - own[1]
        gap = gap_limits((own[0], *confidence), (right, *accuracy))
        return {"gap": gap, "confidence": confidence, "accuracy": accuracy}

    @cached_property
    def _replicates(self) -> Float[np.ndarray, "draws means"]:
        """MEANS in every document resample; NaN where it holds none of the stratum."""
        sums = unit_sums(self.p, self.unit, self.resamples.n_units)
        drawn = self.resamples.counts.astype(np.float64) @ sums
        return drawn[:, 1:] / np.where(drawn[:, :1] > 0, drawn[:, :1], np.nan)

    @cached_property
    def least_high(self) -> float:
        """No score of residuals is below |gap|, so none has an upper limit below the gap's own.

        This matters where the error has one sign: noise in the observed residuals turns some signs, and
        the inversion would take the plug-in score for more biased than it is.
        """
        if self.events.rare:
            return max(abs(x) for x in self.rare_means["gap"])
        drawn = self.drawn[1].sum(axis=1, dtype=np.float64)
        gap = float(self.shares[1].sum())
        return max(abs(x) for x in mean_limits(gap, drawn, self.level, self.wider))

    def why_no_limits(self) -> str | None:
        """Why no resampling of documents is possible."""
        count = self.p.n_documents
        if self.p.effective_documents >= DOCUMENTS_FOR_LIMITS - 1e-9:
            return None
        if count >= DOCUMENTS_FOR_LIMITS:
            return (
                f"no limits: the weights leave {self.p.effective_documents:.1f} documents of {count} "
                f"(Kish's number), and at least {DOCUMENTS_FOR_LIMITS} are needed"
            )
        return (
            f"no limits: {count} document{'s' * (count != 1)}; predictions of one document are not "
            f"independent, and at least {DOCUMENTS_FOR_LIMITS} documents are needed"
        )

    def why_no_resampling(self) -> str | None:
        """Why resampled documents give no limits, for scores that have no others."""
        why = self.why_no_limits()
        return f"no limits: {self.events}" if why is None and self.events.rare else why

    def rows(self) -> list[dict[str, Any]]:
        """Every score of this stratum but the parts of losses and the scores over classes."""
        return [*self._means(), *self._norms(), *self._squares()]

    def norm_row(
        self, score: str, norm: Norm, value: float | None = None, **given: Any
    ) -> dict[str, Any]:
        """A norm score: value, limits by inversion, both nulls."""
        mass, residual = self.shares
        observed = norm.features(mass, residual)
        inner = float(norm.value(observed))
        row: dict[str, Any] = {"score": score, "value": inner if value is None else value}
        null = norm.features(np.broadcast_to(mass, self.null.shape), self.null)
        sizes = norm.value(null)
        row |= {"null_mean": sizes.mean(), "null_high": np.quantile(sizes, self.level)}
        row["p"] = share(reached(norm, null, inner))
        if (why := self.why_no_limits()) is None:
            noise = (norm.features(*self.drawn) - observed) * self.wider
            low, high = norm_limits(norm, observed, noise, self.level)
            if self.events.rare:  # no score of residuals is below |gap|: the gap's limits bound it
                ends = self.rare_means["gap"]
                low, why = max(0.0, ends[0], -ends[1]), FEW.format(self.events)
            row |= {"low": low, "high": max(high, self.least_high)}
            flips = norm.features(np.broadcast_to(mass, self.flipped.shape), self.flipped)
            row["p_documents"] = share(reached(norm, flips, inner))
        return row | {"reason": why} | given

    def _means(self) -> list[dict[str, Any]]:
        values = means(self.p)
        rows: list[dict[str, Any]] = []
        why = self.why_no_limits()
        replicates = self._replicates if why is None else None
        expected = expected_losses(self.p)
        for i, (score, value) in enumerate(zip(MEANS, values)):
            row: dict[str, Any] = {"score": score, "value": value, "reason": why}
            rows.append(row)
            if not np.isfinite(value):
                row |= {"value": np.nan, "reason": self.infinite()}
                continue
            if replicates is not None and self.events.rare:
                if score in self.rare_means:
                    row["low"], row["high"] = self.rare_means[score]
                    row["reason"] = None if score == "confidence" else FEW.format(self.events)
                else:
                    row["reason"] = self.why_no_resampling()
            elif replicates is not None:
                kept = replicates[np.isfinite(replicates[:, i]), i]
                row["low"], row["high"] = mean_limits(value, kept, self.level, self.wider)
            if score == "gap":
                null = self.null.sum(axis=1, dtype=np.float64)
                row |= self._two_sided(value, null)
                if why is None:
                    flips = self.flipped.sum(axis=1, dtype=np.float64)
                    row["p_documents"] = share(np.abs(flips) >= nearly(abs(value)))
            elif score in expected:
                centre, slope = expected[score]
                row |= self._two_sided(value, centre + self.null @ self._slope(slope), centre)
        return rows

    def _slope(self, slope: Float[np.ndarray, " n"]) -> Float[np.ndarray, " cells"]:
        """Per cell, minus the slope that gives the loss its exact variance under the null."""
        w, c, place = self.p.weights, self.p.confidence, self.cells.place
        chance = w**2 * c * (1 - c)
        below = np.bincount(place, chance)
        square = np.bincount(place, chance * slope**2) / np.where(below > 0, below, 1)
        sign = np.sign(np.bincount(place, chance * slope))
        return -sign * np.sqrt(square)

    def _two_sided(
        self, value: float, null: Float[np.ndarray, " draws"], centre: float = 0.0
    ) -> dict[str, Any]:
        high = np.quantile(null, (1 + self.level) / 2)
        p = share(np.abs(null - centre) >= abs(value - centre))
        return {"null_mean": null.mean(), "null_high": high, "p": p}

    def infinite(self) -> str:
        """Why the NLL cannot be given."""
        certain = np.where(self.p.correct, self.p.confidence, 1 - self.p.confidence) == 0
        return INFINITE.format(int((certain & (self.p.weights > 0)).sum()))

    def _norms(self) -> list[dict[str, Any]]:
        rows = [self.norm_row(name, norm) for name, norm in binned.norms(self.cells).items()]
        smooth = smooth_ece(self.p)
        # Enough cosines for the kernel of that width: exp(-(pi k s)^2 / 2) < 1e-8 beyond.
        terms = int(np.clip(2 / max(smooth, 1e-4), 64, 1024))
        rows.append(self.norm_row("smece", SmoothNorm(self.cells.centre, terms), smooth))
        rows.append(self.norm_row("kuiper", CumulativeNorm(), kuiper(self.p)))
        rows.append(self.norm_row("ks", CumulativeNorm("largest"), kuiper(self.p, "largest")))
        sigma = kuiper_sigma(self.p)
        if sigma > 0:
            in_sigmas = rows[-2]["value"] / sigma
            rows.append({"score": "kuiper_sigma", "value": in_sigmas, "p": range_p(in_sigmas)})
        else:
            why = "every confidence is 0 or 1, so nothing is left to chance"
            rows.append({"score": "kuiper_sigma", "reason": why})
        return rows

    def _squares(self) -> list[dict[str, Any]]:
        """Debiased scores; their limits are those of the l2 norm, whose square they estimate."""
        norm = binned.norms(self.cells)["ece_mass_l2"]
        limits = self.norm_row("", norm)
        low, high = limits.get("low", np.nan), limits.get("high", np.nan)
        shared = {k: limits.get(k) for k in ("p", "p_documents", "reason")}
        rows = []
        for suffix, estimate in (("rows", debiased_squared), ("documents", document_squared)):
            squared = estimate(self.p, self.bins)
            both = {
                f"ece_squared_{suffix}": (squared, low**2, high**2),
                f"ece_debiased_{suffix}": (clipped_root(squared), low, high),
            }
            for score, (value, a, b) in both.items():
                rows.append({"score": score, "value": value, "low": a, "high": b} | shared)
        return rows


def share(reached: np.ndarray) -> float:
    """A p-value from draws under the null: the observed data set counts as one of them."""
    return float((1 + np.count_nonzero(reached)) / (1 + len(reached)))
