"""The ranking of a layer's experts by domain: do metrics rank them by the harm that they do there?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from ..contrast.slots import Slots
from ..least import DOCUMENTS_FOR_HARM, DOCUMENTS_PER_EXPERT
from ..ranking.correlation import spearman_rows, standard_ranks
from ..ranking.harm import Harm
from ..ranking.reliability import attenuation
from ..ranking.row import LEAST_REPLICATES, MIN_EXPERTS
from ..sizes.bootstrap import document_weights
from .labels import Labels, no_estimate
from .values import Table

N_SPLITS = 50  # halvings for the reliability of one domain's harm

Scores = Float[np.ndarray, " experts"]


def ranking_rows(
    harm: Harm,
    names: Sequence[str],
    values: Mapping[str, Table],
    labels: Labels,
    *,
    level: float | int,
    n_boot: int,
    seed: int,
    oracle: bool,
) -> Iterator[dict[str, Any]]:
    """One row for each metric and domain of one layer; with `oracle`, rows of the harm elsewhere too.

    `values` are those of `Values.layer`. The row "heldout_causal" holds an expert's harm in the other
    domains against that in this one.
    """
    n = len(harm.tokens)
    whole = values["whole"][0]
    measured = {kind: tables for kind, tables in values.items() if kind != "whole"}
    everything = harm.mean(np.ones((1, n)))[0]
    for number, domain in enumerate(labels.names):
        here = _part(harm, labels.inside(number))
        weights = document_weights(max(len(here.tokens), 2), n_boot, seed)
        sample = _Sample(here, weights, level, seed)
        outside = np.zeros((1, n))
        outside[0, labels.outside(number)] = 1.0
        rest = harm.mean(outside)[0]
        place = np.searchsorted(harm.expert, here.expert)
        base = {
            "layer": harm.layer,
            "domain": domain,
            "n_documents": int((here.tokens > 0).sum()),
        }
        for i, name in enumerate(names):
            row = {**base, "metric": name, "role": "metric"}
            row["whole"] = _rho(whole[i, harm.expert], everything)
            row["without"] = _rho(whole[i, harm.expert], rest)
            for kind, tables in measured.items():
                row[kind] = _rho(tables[number, i, here.expert], sample.mean)
            yield row | sample.row(whole[i, here.expert])
        if oracle and len(labels.names) > 1:
            row = {**base, "metric": "heldout_causal", "role": "control"} | sample.row(rest[place])
            yield row | {"elsewhere": row.get("estimate", np.nan)}


class _Sample:
    """The documents of one domain: the experts' harm, how well it is known, and its replicates."""

    def __init__(self, here: Harm, weights: np.ndarray, level: float | int, seed: int) -> None:
        self.here, self.level = here, level
        self._ranks: dict[bytes, np.ndarray] = {}
        self.n_documents = len(here.tokens)
        self.reason = no_estimate(int((here.tokens > 0).sum()))
        self.mean = here.mean(np.ones((1, self.n_documents)))[0]
        if self.reason is None:
            self.noise = attenuation(here, seed, level, N_SPLITS)
            self.replicates = here.mean(weights)

    def row(self, score: Scores) -> dict[str, Any]:
        """The correlation of a score with the harm, with limits by document; or why there is none."""
        use = np.isfinite(score) & np.isfinite(self.mean)
        out: dict[str, Any] = {
            "n": int(self.here.count[:, use].sum()),
            "n_experts": int(use.sum()),
            "reason": self.reason,
        }
        if out["reason"] is None:
            out["reason"] = _why_not(score[use], self.mean[use])
        if out["reason"] is not None:
            return out
        ranks = self._drawn(use)
        if len(ranks) <= LEAST_REPLICATES:
            return out | {
                "reason": "every expert occurs in too few resamplings of the domain's documents"
            }
        rho, *again = ranks @ standard_ranks(score[None, use])[0]
        draws = np.array(again)[np.isfinite(again)]
        low, high = self.noise.observed_limits(draws, self.level)
        # A replicate holds the noise twice and is pulled further to zero: widened as its limits are.
        wider = np.sqrt(2 - self.noise.reliability) if self.noise.known else np.sqrt(2)
        below, above = self.noise.ceiling_limits
        return out | {
            "estimate": float(rho),
            "se": float(draws.std(ddof=1) * wider),
            "dof": float(self.n_documents - 1),
            "low": low,
            "high": high,
            "ceiling": self.noise.ceiling,
            "ceiling_low": below,
            "ceiling_high": above,
        }

    def _drawn(self, use: np.ndarray) -> np.ndarray:
        """Standardised ranks of the harm and of its replicates, of the experts in use: made once for all
        scores that know the same experts."""
        key = use.tobytes()
        if key not in self._ranks:
            drawn = self.replicates[:, use]
            drawn = drawn[~np.isnan(drawn).any(axis=1)]
            self._ranks[key] = standard_ranks(np.concatenate([self.mean[None, use], drawn]))
        return self._ranks[key]


def harm_of(slots: Slots) -> Harm:
    """One layer's effects by document and expert, of the experts seen in enough documents."""
    present, width = slots.present, int(slots.expert.max()) + 1
    document = np.broadcast_to(slots.document[:, None], slots.expert.shape)[present]
    flat, size = document * width + slots.expert[present], slots.n_documents * width
    total = np.bincount(flat, slots.value[present], size).reshape(-1, width)
    count = np.bincount(flat, minlength=size).reshape(-1, width).astype(float)
    seen = (count > 0).sum(axis=0)
    keep = seen >= min(DOCUMENTS_PER_EXPERT, slots.n_documents)
    return Harm(
        slots.layer,
        np.flatnonzero(keep),
        total[:, keep],
        count[:, keep],
        np.bincount(slots.document, minlength=slots.n_documents).astype(float),
        int(((seen > 0) & ~keep).sum()),
        "active_token",
    )


def _part(harm: Harm, documents: np.ndarray) -> Harm:
    """The harm in some documents, of the experts seen in half of them (4 to 10 at least)."""
    count = harm.count[documents]
    least = min(DOCUMENTS_PER_EXPERT, max(DOCUMENTS_FOR_HARM, -(-len(documents) // 2)))
    keep = (count > 0).sum(axis=0) >= least
    return replace(
        harm,
        expert=harm.expert[keep],
        total=harm.total[documents][:, keep],
        count=count[:, keep],
        tokens=harm.tokens[documents],
        n_dropped=int((~keep).sum()),
    )


def _rho(score: Scores, harm: Scores) -> float:
    use = np.isfinite(score) & np.isfinite(harm)
    if _why_not(score[use], harm[use]) is not None:
        return float("nan")
    return float(spearman_rows(score[None, use], harm[None, use])[0, 0])


def _why_not(score: Scores, mean: Scores) -> str | None:
    if len(score) < MIN_EXPERTS:
        return f"only {len(score)} experts have both a value and harm in this domain; {MIN_EXPERTS} are needed"
    if np.ptp(score) == 0:
        return "the metric is the same for every expert"
    if np.ptp(mean) == 0:
        return "the expected harm is the same for every expert"
    return None
