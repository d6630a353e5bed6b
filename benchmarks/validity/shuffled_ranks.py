"""Noise given to `expert_harm`: do metrics dealt to other experts rank them by their harm?

OMP_NUM_THREADS=1 python -m benchmarks.validity.shuffled_ranks RUN
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from moeaudit.stats import get_protocol
from moeaudit.stats.domains.across_experts import harm_of
from moeaudit.stats.families.maxt import step_down
from moeaudit.stats.few import too_few
from moeaudit.stats.ranking.attenuation import Attenuation
from moeaudit.stats.ranking.claims import claims, document_columns
from moeaudit.stats.ranking.correlation import standard_ranks
from moeaudit.stats.ranking.reliability import attenuation
from moeaudit.stats.ranking.size import OverRanked, Size, size_columns
from moeaudit.stats.sizes.bootstrap import document_weights
from moeaudit.stats.sizes.lengths import p_lengths

from .dealt import Dealt, Layer, shares, told
from .draws import described
from .shuffled import ABOVE, SAID

SESOI = (0.3, 0.1)
DEALS = 10_000  # of a null, as in a default audit


@dataclass(frozen=True)
class Ranked:
    """A metric in one layer: standardised ranks of its values and of the harm of the experts that have one,
    of that harm in `n_boot` resamplings of documents, and |rho| sqrt(n - 1) under `banks` sets of deals."""

    layer: Layer
    use: np.ndarray  # of the layer's experts
    values: np.ndarray
    harm: np.ndarray
    resampled: np.ndarray
    null: np.ndarray  # (banks, DEALS)
    noise: Attenuation
    documents: int
    few: str | None

    def rho(self, i: int) -> float:
        return float(self.values[self.layer.shuffles.among(self.use)[i]] @ self.harm)

    def all_rho(self, audits: int) -> np.ndarray:
        return self.values[self.layer.shuffles.among(self.use)[: audits + 1]] @ self.harm


def ranked(dealt: Dealt, seed: int) -> list[Ranked]:
    """Every cell, layer by layer. Raises where a metric is constant, or an expert occurs in few resamplings."""
    out = []
    for layer in dealt.layers:
        harm = harm_of(layer.slots)
        weights = document_weights(len(harm.tokens), get_protocol("moeaudit").n_boot, seed)
        mean = harm.mean(np.ones((1, len(harm.tokens))))
        drawn = harm.mean(weights)
        noise = attenuation(harm, seed)
        sums, count = harm.total.sum(axis=1), harm.count.sum(axis=1)
        few = too_few(sums, count, p_lengths=p_lengths(sums, count))
        rng = np.random.default_rng([seed, 7, layer.slots.layer])
        order = np.tile(np.arange(len(harm.expert)), (dealt.banks * DEALS, 1))
        order = rng.permuted(order, axis=1)
        in_harm = np.isin(layer.shuffles.expert, harm.expert)
        for values in layer.values:
            use = in_harm & np.isfinite(values)
            mine = np.isin(harm.expert, layer.shuffles.expert[use])
            x = standard_ranks(values[None, use])[0]
            y = standard_ranks(mean[:, mine])[0]
            again = drawn[:, mine]
            again = standard_ranks(again[~np.isnan(again).any(axis=1)])
            places = np.argsort(np.argsort(order[:, mine], axis=1), axis=1)
            null = np.abs(x[places] @ y) * np.sqrt(use.sum() - 1)
            assert np.isfinite(null).all() and len(again) > len(weights) / 2
            null = null.reshape(dealt.banks, DEALS)
            out.append(Ranked(layer, use, x, y, again, null, noise, len(harm.tokens), few))
    return out


def experts_p(cells: list[Ranked], rho: np.ndarray, bank: int) -> np.ndarray:
    """`p_maxt` of each cell."""
    z = np.abs(rho) * np.sqrt([c.use.sum() - 1 for c in cells])
    return step_down(z, [c.null[bank] for c in cells])


def verdicts(cells: list[Ranked], rho: np.ndarray, p: np.ndarray, i: int) -> dict[float, pd.Series]:
    """The verdict of every cell of audit i at each smallest correlation of interest, by the package's rules."""
    rows, deviations, sizes = [], [], []
    for cell, r in zip(cells, rho):
        dealt = cell.values[cell.layer.shuffles.among(cell.use)[i]]
        found, noise = cell.resampled @ dealt, cell.noise
        low, high = noise.true_limits(found, 0.95)
        p_documents = 2 * stats.t.sf(noise.z_documents(r, found), cell.documents - 1)
        row = {"rho": r, "rho_true_low": low, "rho_true_high": high}
        rows.append(row | {"p_documents": p_documents, "too_few": cell.few})
        over = OverRanked.of(dealt, cell.harm)
        sizes.append(Size(r, noise.observed_se(found), cell.documents, over, noise))
        spread = np.abs(found - found.mean()) / found.std(ddof=1)
        deviations.append(np.resize(spread, len(cells[0].resampled)))
    part = pd.DataFrame(rows)
    alone = part["p_documents"].to_numpy(float)
    columns = {"p_maxt": p} | document_columns(alone, stats.norm.isf(alone / 2), deviations)
    out, recipe = {}, get_protocol("moeaudit")
    for sesoi in SESOI:
        said = claims(part, columns | size_columns(sizes, sesoi, recipe), sesoi, recipe)
        out[sesoi] = pd.Series(said["verdict"])
    return out


def noise(dealt: Dealt, seed: int) -> dict[str, float]:
    """Shares of audits with any claim."""
    cells = ranked(dealt, seed)
    every = np.stack([c.all_rho(dealt.audits) for c in cells])
    said = []
    for i in range(1, dealt.audits + 1):
        p = experts_p(cells, every[:, i], i % dealt.banks)
        here = {"experts show a cell": bool((p <= 0.05).any())}
        words = ["an effect, whatever its size", *(f"{s}: above" for s in SESOI)]
        here |= dict.fromkeys(words, False)
        if here["experts show a cell"]:
            for sesoi, verdict in verdicts(cells, every[:, i], p, i).items():
                here["an effect, whatever its size"] |= bool(verdict.isin(SAID).any())
                here[f"{sesoi}: above"] = bool(verdict.isin(ABOVE).any())
        said.append(here)
    return shares(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a finished audit")
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--banks", type=int, default=2, help="sets of 10,000 deals for the nulls")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = {}
    for name, outcome in (("harm", "delta_nll"), ("KL", "kl")):
        dealt = Dealt(options.run, outcome, options.audits, 0, seed=options.seed)
        dealt.banks = options.banks
        found[name] = noise(dealt, options.seed)
    print(f"{described(options.run)}; {options.audits} audits; {options.banks} sets of null deals; "
          f"seed {options.seed}\n\n`expert_harm`\n\n{told(found)}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
