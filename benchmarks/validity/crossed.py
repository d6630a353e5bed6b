"""Do the crossed limits hold a metric's effect where experts and documents are both drawn?

    OMP_NUM_THREADS=1 nice -n 10 python -m benchmarks.validity.crossed --audits 1000

In every audit the experts are new: a metric each, an effect of their own, a share of use. So are documents: which
experts they use, and what an expert does in them. The metric's effect is known and the same throughout.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from moeaudit.stats.families.crossed import d_z_over_experts
from moeaudit.stats.sizes.limits import adjusted_limits
from moeaudit.stats.sizes.moments import d_z, jackknife, moments, weighted

EXPERTS, DOCUMENTS, TOKENS, TOP_K = (16, 32, 64), (25, 50, 160), 48, 4


@dataclass(frozen=True)
class Law:
    """Deviations, in those of one token's difference: `slope` of the effect on the metric, `own` of an expert
    beside it, `inside` of an expert in one document; `zipf` is the exponent of experts' use."""

    slope: float
    own: float
    inside: float = 0.05
    zipf: float = 0.5

    def draw(
        self, rng: np.random.Generator, experts: int, documents: int, tokens: int = TOKENS
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Difference, document and (highest, lowest) expert of every token."""
        n, rows = documents * tokens, np.arange(documents * tokens)
        document = np.repeat(np.arange(documents), tokens)
        metric, own = rng.standard_normal(experts), self.own * rng.standard_normal(experts)
        use = -self.zipf * np.log(rng.permutation(experts) + 1.0)
        use = use + 0.7 * rng.standard_normal((documents, experts))
        active = np.argsort(-(use[document] + rng.gumbel(size=(n, experts))), axis=1)[:, :TOP_K]
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

    def truth(self, experts: int, sets: int = 300) -> float:
        """d_z over draws of experts and documents, by simulation: mean over deviation."""
        rng = np.random.default_rng(99)
        drawn = [self.draw(rng, experts, 40, 20)[0] for _ in range(sets)]
        mean = float(np.mean([d.mean() for d in drawn]))
        return mean / float(np.sqrt(np.mean([(d**2).mean() for d in drawn]) - mean**2))


LAWS = {
    "no effect": Law(0.0, 0.1),
    "small effect": Law(0.05, 0.05, zipf=1.0),
    "medium effect": Law(0.1, 0.1),
    "large effect, experts very different": Law(0.3, 0.3, 0.1),
}


def measured(
    law: Law, experts: int, documents: int, audits: int, truth: float
) -> tuple[float, float]:
    """Share of 95 % limits that hold the truth: by documents alone, crossed."""
    hits = np.zeros(2)
    for i in range(audits):
        rng = np.random.default_rng([i, experts, documents])
        difference, document, pair = law.draw(rng, experts, documents)
        m = moments(document, difference, np.zeros(len(difference)))
        estimate = float(d_z(weighted(m))[0])
        low, high = adjusted_limits(estimate, jackknife(m, "d_z"), 0.95)
        part = d_z_over_experts(difference, document, pair)
        wide = part.around(estimate, low, high, 0.95)
        hits += low <= truth <= high, wide[0] <= truth <= wide[1]
    alone, both = hits / audits
    return float(alone), float(both)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--documents", type=int, action="append")
    options = parser.parse_args()
    print("| law | true d_z | experts | documents | audits | by documents | crossed |")
    print("| --- |" + " ---: |" * 6)
    for name, law in LAWS.items():
        truth = law.truth(64)
        for experts in EXPERTS:
            for documents in options.documents or DOCUMENTS:
                found = measured(law, experts, documents, options.audits, truth)
                told = f"{truth:.3f} | {experts} | {documents} | {options.audits}"
                print(f"| {name} | {told} | {found[0]:.3f} | {found[1]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
