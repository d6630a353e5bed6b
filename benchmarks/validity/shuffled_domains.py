"""Noise and the claim of most reach: which dealt metrics are said to hold for "domains like these"?

    OMP_NUM_THREADS=1 python -m benchmarks.validity.shuffled_domains RUN

RUN has the tables of other domains (`moeaudit audit MODEL --out RUN` with the bundled corpus). A metric is dealt
alike in both texts, so what it hits by luck in the one is there in the other too, as far as experts do the same.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from moeaudit.stats import across_domains, by_domain
from moeaudit.stats.contrast.contrast import QUESTION as WITHIN
from moeaudit.stats.domains.support import supported
from moeaudit.stats.families.experts import joint_p
from moeaudit.stats.families.maxt import max_t
from moeaudit.stats.ranking.table import QUESTION as ACROSS
from moeaudit.stats.sizes.equivalence import INCONCLUSIVE, LIKE_THESE, OPEN, THE_LAYER

from .dealt import Dealt, shares, told
from .draws import described
from .shuffled import FLIPS, SAID
from .shuffled_ranks import Ranked, experts_p, ranked, verdicts


@dataclass
class Text:
    """One text of a run: what audit i of a question claims there."""

    dealt: Dealt
    seed: int
    known: dict[tuple[str, int], pd.DataFrame] = field(default_factory=dict)

    @cached_property
    def ranks(self) -> list[Ranked]:
        return ranked(self.dealt, self.seed)

    @cached_property
    def rho(self) -> np.ndarray:
        return np.stack([c.all_rho(self.dealt.audits) for c in self.ranks])

    def tests(self, question: str, i: int) -> pd.DataFrame:
        """The columns of a tests table that `supported` reads; without a cell that experts show nothing is
        claimed, and documents are not asked."""
        if (question, i) not in self.known:
            layers = [y.slots.layer for y in self.dealt.layers]
            names = self.dealt.names
            size, claimed = self._ranks(i) if question == ACROSS else self._contrasts(i)
            table = pd.DataFrame(
                {"metric": names * len(layers), "layer": np.repeat(layers, len(names))}
            )
            table["rho" if question == ACROSS else "d_z"] = size
            table["verdict"] = np.where(claimed, OPEN, INCONCLUSIVE)
            table["supports"] = [THE_LAYER if yes else None for yes in claimed]
            self.known = {(question, i): table.assign(question=question, role="metric")}
        return self.known[question, i]

    def _contrasts(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        held = self.dealt.held(self.dealt.contrasts, i)
        size = np.array([x.statistic[0] if x.reason is None else np.nan for x in held])
        shown = joint_p(held) <= 0.05
        if shown.any():
            n = len(self.dealt.documents)
            sums = [np.bincount(d, x, n) for d, x, _ in self.dealt.cells(i)]
            p = max_t(np.stack(sums, axis=1), n_flips=FLIPS, seed=i).p_maxt
            shown &= p <= 0.05
        return size, shown

    def _ranks(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        rho = self.rho[:, i]
        p = experts_p(self.ranks, rho, i % self.dealt.banks)
        if (p <= 0.05).any():
            return rho, verdicts(self.ranks, rho, p, i)[0.3].isin(SAID).to_numpy()
        return rho, np.zeros(len(p), dtype=bool)


def noise(
    texts: list[Text], tokens: pd.DataFrame, outcome: str, *, tables: bool = True
) -> dict[str, float]:
    """Shares of audits with any claim: of the experts of the layer, in the other domains too with the same
    sign (an upper bound of the last), and, if `tables` by domain are made, of domains like these."""
    own, other = texts
    same = [
        np.array_equal(a.shuffles.places, b.shuffles.places)
        for a, b in zip(own.dealt.layers, other.dealt.layers)
    ]
    assert all(same), "other experts are active in the other text, so deals differ"
    said = []
    for i in range(1, own.dealt.audits + 1):
        here = {}
        for question, name in ((WITHIN, "contrast"), (ACROSS, "expert_harm")):
            tests = own.tests(question, i).assign(outcome=outcome)
            claimed = (tests["verdict"] == OPEN).to_numpy()
            here[f"{name}: experts of this layer"] = bool(claimed.any())
            words = ("in the other domains too", "domains like these")[: 1 + tables]
            here |= {f"{name}: {w}": False for w in words}
            if not claimed.any():
                continue
            shift = other.tests(question, i).assign(outcome=outcome)
            size = "rho" if question == ACROSS else "d_z"
            again = claimed & (shift["verdict"] == OPEN).to_numpy()
            again &= np.sign(tests[size].to_numpy()) == np.sign(shift[size].to_numpy())
            here[f"{name}: {words[0]}"] = bool(again.any())
            if tables and again.any():  # else no row has what is needed
                here[f"{name}: {words[1]}"] = _like_these(own, tokens, tests, shift, i)
        said.append(here)
    return shares(said)


def _like_these(
    own: Text, tokens: pd.DataFrame, tests: pd.DataFrame, shift: pd.DataFrame, i: int
) -> bool:
    outcome, question = str(tests["outcome"].iloc[0]), str(tests["question"].iloc[0])
    found: pd.DataFrame = by_domain(
        own.dealt.effects, own.dealt.table(i), tokens, outcome=outcome, controls=(), seed=own.seed
    )
    across = across_domains(found[found["question"] == question])
    return bool((supported(tests, across, shift)["supports"] == LIKE_THESE).any())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a finished audit with the folder `shift`")
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--banks", type=int, default=4, help="sets of deals for the nulls")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--no-tables", action="store_true", help="stop at the upper bound: minutes less"
    )
    options = parser.parse_args()
    tokens = pd.read_parquet(options.run / "tokens.parquet")
    given = (options.audits, options.banks)
    found = {}
    for name, outcome in (("harm", "delta_nll"), ("KL", "kl")):
        texts = [
            Text(
                Dealt(options.run, outcome, *given, seed=options.seed, inside=inside), options.seed
            )
            for inside in ("effects", "shift/effects")
        ]
        found[name] = noise(texts, tokens, outcome, tables=not options.no_tables)
        print(name, found[name], flush=True)
    print(f"{described(options.run)}; {options.audits} audits; {options.banks} sets of null deals; "
          f"seed {options.seed}\n\n{told(found)}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
