"""Few documents, and effects of awkward laws: false claims with and without what `too_few` withholds.

    OMP_NUM_THREADS=1 nice -n 10 python -m benchmarks.validity.few --audits 1000

Audits of 8 cells whose true mean by token is zero, in documents of log-normal lengths (sigma 0.8, mean 48).
The first `--bounds` audits of a row are also moved to both sides of the bound.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from moeaudit.stats.families import families
from moeaudit.stats.families.maxt import max_t
from moeaudit.stats.few import carriers, lean, too_few
from moeaudit.stats.sizes.beyond import p_beyond
from moeaudit.stats.sizes.lengths import p_lengths
from moeaudit.stats.sizes.limits import Spread, adjusted_limits, adjusted_tost
from moeaudit.stats.sizes.moments import Moments, d_z, jackknife, weighted

from .draws import cells_of

CELLS, MEAN_LENGTH, BOUND, FLIPS = 8, 48, 0.1, 499
DOCUMENTS = (4, 8, 12, 25, 50, 160)
LAWS = {
    "nice": "t3 tails, neighbouring tokens correlated .5, t4 effects of documents",
    "skewed": "log-normal less its mean, skewness 6; documents of different scale",
    "sparse": "5 % of tokens carry everything, log-normal and of one sign: skewness -15",
    "linked": "effects fall by 0.35 deviations with the logarithm of the length",
    "one domain": "every eighth document has effects 20 times as large, and one of its own",
}


def draw(law: str, rng: np.random.Generator, documents: int) -> tuple[np.ndarray, np.ndarray]:
    """Differences (tokens, cells) of mean zero and deviation about 1, and tokens of each document."""
    n = np.exp(0.8 * rng.standard_normal(documents) - 0.32) * MEAN_LENGTH
    n = np.maximum(np.round(n), 2).astype(int)
    shape = (documents, int(n.max()), CELLS)
    z = np.sqrt(0.7) * rng.standard_normal(shape)
    z += np.sqrt(0.3) * rng.standard_normal((*shape[:2], 1))  # cells share tokens
    if law == "nice":
        for t in range(1, shape[1]):
            z[:, t] = 0.5 * z[:, t - 1] + np.sqrt(0.75) * z[:, t]
        x = z / np.sqrt(rng.chisquare(3, (*shape[:2], 1)))
        x += 0.05 * rng.standard_t(4, (documents, 1, CELLS))
    elif law == "skewed":
        x = (np.exp(z) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)
        x *= np.exp(0.3 * rng.standard_normal((documents, 1, 1)) - 0.09)
    elif law == "sparse":
        share, s = 0.05, 0.9
        mean = share * np.exp(s**2 / 2)
        x = mean - np.where(rng.random(shape) < share, np.exp(s * z), 0.0)
        x /= np.sqrt(share * np.exp(2 * s**2) - mean**2)
    elif law == "linked":
        x = z / np.sqrt(rng.chisquare(4, (*shape[:2], 1)) / 2)
        # the mean of log(n / 48) by token is 0.32 (before rounding)
        x -= 0.35 * (np.log(n / MEAN_LENGTH) - 0.32)[:, None, None]
    else:
        large = (np.arange(documents) % 8 == 0)[:, None, None]
        x = np.exp(0.8 * z) * rng.choice([-1, 1], shape) * np.where(large, 1, 0.05)
        x /= np.sqrt((1 + 7 * 0.05**2) / 8 * np.exp(1.28))
        x += np.where(large, 0.3, 0) * rng.standard_normal((documents, 1, CELLS))
    return x[np.arange(shape[1]) < n[:, None]], n


@dataclass(frozen=True)
class Audit:
    """One audit's sums by document (cells, documents, 7) and what is withheld, cell by cell."""

    sums: np.ndarray
    withheld: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, n: np.ndarray) -> Audit:
        document = np.repeat(np.arange(len(n)), n)
        sums = np.zeros((x.shape[1], len(n), 7))
        few = []
        for cell, values in enumerate(x.T):
            first = np.bincount(document, values, len(n))
            sums[cell, :, 0], sums[cell, :, 1] = n, first
            sums[cell, :, 3] = np.bincount(document, values**2, len(n))
            linked = p_lengths(first, n)
            few.append(
                too_few(first, n, carriers=carriers(values), lean=lean(values), p_lengths=linked)
            )
        return cls(sums, np.array([why is not None for why in few]))

    def moved(self, effect: float) -> Audit:
        """All differences larger by `effect`. What is withheld is about the median or the mean, and stays."""
        out = self.sums.copy()
        out[:, :, 1] += effect * self.sums[:, :, 0]
        out[:, :, 3] += 2 * effect * self.sums[:, :, 1] + effect**2 * self.sums[:, :, 0]
        return Audit(out, self.withheld)

    def cells(self) -> list[tuple[float, np.ndarray, Moments]]:
        """Estimate and leave-one-out values of every cell."""
        return [(float(d_z(weighted(m))[0]), jackknife(m, "d_z"), m) for m in cells_of(self.sums)]


def false_claims(audit: Audit, seed: int) -> dict[str, bool | float]:
    """Where nothing is there."""
    p = max_t(audit.sums[:, :, 1].T.copy(), n_flips=FLIPS, seed=seed).p_maxt
    cover = []
    for estimate, left, _ in audit.cells():
        low, high = adjusted_limits(estimate, left, 0.95)
        cover.append(low <= 0 <= high)
    return {
        "claims, all": bool((p <= 0.05).any()),
        "claims": bool(((p <= 0.05) & ~audit.withheld).any()),
        "withheld": float(audit.withheld.mean()),
        "coverage": float(np.mean(cover)),
    }


def at_the_bound(audit: Audit) -> dict[str, float]:
    """Where every cell lies on the bound, mean of both sides: wrongly "below" it (TOST), wrongly above."""
    out: dict[str, list[float]] = {}
    for effect in (BOUND, -BOUND):
        cells = audit.moved(effect).cells()
        small = np.array([adjusted_tost(e, left, BOUND) for e, left, _ in cells])
        large = np.array(  # nothing above .05 is claimed, corrected or not
            [p_beyond(e, Spread.of(left), BOUND, least=0.05) for e, left, _ in cells]
        )
        use = ~audit.withheld
        for name, p in (("below", small), ("above", large)):
            out.setdefault(f"{name}, by cell", []).append(bool(((p <= 0.05) & use).any()))
            held = families.adjust(p, "holm") <= 0.05
            out.setdefault(f"{name}, Holm", []).append(bool((held & use).any()))
    return {name: float(np.mean(x)) for name, x in out.items()}


def measured(law: str, documents: int, audits: int, bounds: int, seed: int) -> dict[str, float]:
    """Shares over audits; those at the bound over the first `bounds`."""
    said, moved = [], []
    for i in range(audits):
        rng = np.random.default_rng([seed, i, documents, list(LAWS).index(law)])
        audit = Audit.of(*draw(law, rng, documents))
        said.append(false_claims(audit, i))
        if i < bounds and documents >= 12:
            moved.append(at_the_bound(audit))
    rows = [
        {k: float(np.mean([r[k] for r in part])) for k in part[0]} for part in (said, moved) if part
    ]
    return {k: v for row in rows for k, v in row.items()}


NAMES = ("claims, all", "claims", "withheld", "coverage")
AT_BOUND = ("below, by cell", "below, Holm", "above, by cell", "above, Holm")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--bounds", type=int, default=400, help="of these, also at the bound")
    parser.add_argument("--law", choices=LAWS, action="append")
    parser.add_argument("--documents", type=int, action="append")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    columns = (*NAMES, *AT_BOUND)
    print(f"| law | documents | audits | {' | '.join(columns)} |")
    print("| --- |" + " ---: |" * (len(columns) + 2))
    for law in options.law or LAWS:
        for documents in options.documents or DOCUMENTS:
            found = measured(law, documents, options.audits, options.bounds, options.seed)
            told = [f"{found[c]:.3f}" if c in found else "" for c in columns]
            print(f"| {law} | {documents} | {options.audits} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main()
