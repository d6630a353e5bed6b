"""Do the crossed limits hold a metric's effect where experts and documents are both drawn?

    OMP_NUM_THREADS=1 nice -n 10 python -m benchmarks.validity.crossed --audits 1000

In every audit the experts are new: a metric each, an effect of their own, a share of use. So are documents: which
experts they use, and what an expert does in them. The metric's effect is known and the same throughout.
`--bound` asks instead how often any of 8 layers, whose effects all lie on the bound, is called larger.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from moeaudit.stats.families import families
from moeaudit.stats.families.crossed import OverExperts, d_z_over_experts
from moeaudit.stats.sizes.beyond import p_beyond
from moeaudit.stats.sizes.limits import Spread, adjusted_limits
from moeaudit.stats.sizes.moments import d_z, jackknife, moments, weighted

EXPERTS, DOCUMENTS, TOKENS, TOP_K = (16, 32, 64), (25, 50, 160), 48, 4
LAYERS = 8
MEAN = np.exp(0.32)  # of the log-normal metric
DEVIATION = MEAN * np.sqrt(np.exp(0.64) - 1)


@dataclass(frozen=True)
class Law:
    """Deviations, in those of one token's difference: `slope` of the effect on the metric, `own` of an expert
    beside it, `inside` of an expert in one document; `zipf` is the exponent of experts' use."""

    slope: float
    own: float
    inside: float = 0.05
    zipf: float = 0.5
    heavy: bool = False  # a log-normal metric, and t3 effects of experts

    def experts(self, rng: np.random.Generator, size: int | tuple[int, ...]) -> np.ndarray:
        """Metric and own effect of experts, each of mean zero and its deviation: (2, size)."""
        if not self.heavy:
            return np.stack([rng.standard_normal(size), self.own * rng.standard_normal(size)])
        metric = (np.exp(0.8 * rng.standard_normal(size)) - MEAN) / DEVIATION
        return np.stack([metric, self.own * rng.standard_t(3, size) / np.sqrt(3)])

    def draw(
        self, rng: np.random.Generator, experts: int, documents: int, tokens: int = TOKENS
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Difference, document and (highest, lowest) expert of every token."""
        n, rows = documents * tokens, np.arange(documents * tokens)
        document = np.repeat(np.arange(documents), tokens)
        metric, own = self.experts(rng, experts)
        use = -self.zipf * np.log(rng.permutation(experts) + 1.0)
        use = use + 0.7 * rng.standard_normal((documents, experts))
        wanted = (use[document] + rng.gumbel(size=(n, experts))).astype(np.float32)
        active = np.argpartition(-wanted, TOP_K, axis=1)[:, :TOP_K]
        top = active[rows, metric[active].argmax(axis=1)]
        bottom = active[rows, metric[active].argmin(axis=1)]
        here = (self.slope * metric + own) + self.inside * rng.standard_normal((documents, experts))
        size = np.exp(0.8 * rng.standard_normal((n, 2)) - 0.64) * rng.choice([-1, 1], (n, 2))
        noise = (size[:, 0] - size[:, 1]) / np.sqrt(2)
        return (
            here[document, top] - here[document, bottom] + noise,
            document,
            np.stack([top, bottom], 1),
        )

    def truth(self) -> float:
        """d_z over draws of experts and documents: of a token's active experts the metric's highest and
        lowest differ by its range, and the rest has mean zero and known variance."""
        metric = self.experts(np.random.default_rng(99), (1_000_000, TOP_K))[0]
        range_ = self.slope * np.ptp(metric, axis=1)
        rest = 2 * self.own**2 + 2 * self.inside**2 + 1
        return float(range_.mean() / np.sqrt(range_.var() + rest))


LAWS = {
    "no effect": Law(0.0, 0.1),
    "small effect": Law(0.05, 0.05, zipf=1.0),
    "medium effect": Law(0.1, 0.1),
    "large effect, experts very different": Law(0.3, 0.3, 0.1),
    "skewed metric, heavy-tailed experts": Law(0.1, 0.1, heavy=True),
}


def cell(
    law: Law, rng: np.random.Generator, experts: int, documents: int
) -> tuple[float, np.ndarray, OverExperts]:
    """Estimate, leave-one-out values and the experts' part of one layer's contrast."""
    difference, document, pair = law.draw(rng, experts, documents)
    m = moments(document, difference, np.zeros(len(difference)))
    part = d_z_over_experts(difference, document, pair)
    return float(d_z(weighted(m))[0]), jackknife(m, "d_z"), part


def measured(
    law: Law, experts: int, documents: int, audits: int, truth: float, seed: int = 0
) -> tuple[float, float]:
    """Share of 95 % limits that hold the truth: by documents alone, crossed."""
    hits = np.zeros(2)
    for i in range(audits):
        rng = np.random.default_rng([seed, i, experts, documents])
        estimate, left, part = cell(law, rng, experts, documents)
        low, high = adjusted_limits(estimate, left, 0.95)
        wide = part.around(estimate, low, high, 0.95)
        hits += low <= truth <= high, wide[0] <= truth <= wide[1]
    alone, both = hits / audits
    return float(alone), float(both)


def on_the_bound(
    law: Law, experts: int, documents: int, audits: int, truth: float, seed: int = 0
) -> tuple[float, float, float]:
    """Share of audits in which any of `LAYERS` layers is wrongly called above a bound on which the effects of
    all lie: cell by cell, by Holm, and by Holm without the experts' part."""
    wrong = np.zeros(3)
    for i in range(audits):
        rng = np.random.default_rng([seed, i, experts, documents, LAYERS])
        both, alone = [], []
        for _ in range(LAYERS):
            estimate, left, part = cell(law, rng, experts, documents)
            spread = Spread.of(left)
            both.append(p_beyond(estimate, spread, truth, around=part.around, least=0.05))
            alone.append(p_beyond(estimate, spread, truth, least=0.05))
        held = [families.adjust(np.array(p), "holm") for p in (both, alone)]
        wrong += [(p <= 0.05).any() for p in (np.array(both), *held)]
    single, holm, without = wrong / audits
    return float(single), float(holm), float(without)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--documents", type=int, action="append")
    parser.add_argument("--experts", type=int, action="append")
    parser.add_argument("--law", choices=LAWS, action="append")
    parser.add_argument("--bound", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    columns = (
        ("by cell", "Holm", "by documents, Holm") if options.bound else ("by documents", "crossed")
    )
    print(f"| law | true d_z | experts | documents | audits | {' | '.join(columns)} |")
    print("| --- |" + " ---: |" * (4 + len(columns)))
    for name in options.law or LAWS:
        truth, ask = LAWS[name].truth(), on_the_bound if options.bound else measured
        if options.bound and truth == 0:  # no bound to lie on
            continue
        for experts in options.experts or EXPERTS:
            for documents in options.documents or DOCUMENTS:
                found = ask(LAWS[name], experts, documents, options.audits, truth, options.seed)
                told = f"{truth:.3f} | {experts} | {documents} | {options.audits}"
                shares = " | ".join(f"{x:.3f}" for x in found)
                print(f"| {name} | {told} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
