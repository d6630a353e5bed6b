"""How long every calibration score of a million predictions takes, with limits and nulls.

python benchmarks/calibration.py --predictions 1000000 --documents 10000 --draws 1000
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from moeaudit.calibration import Predictions, calibration_scores, reliability


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--predictions", type=int, default=1_000_000)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--groups", type=int, default=10)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    n = options.predictions
    document = np.sort(rng.integers(0, options.documents, n))
    confidence = rng.beta(4, 2, n)
    plain = Predictions(confidence, rng.random(n) < confidence**1.05, document=document)
    group = document % options.groups
    cut = Predictions(confidence, plain.correct, group, document)
    weighted = Predictions(confidence, plain.correct, None, document, rng.exponential(size=n))
    for name, p, what in (
        ("all scores", plain, calibration_scores),
        ("all scores, weighted", weighted, calibration_scores),
        (f"all scores, {options.groups} groups beside the whole", cut, calibration_scores),
        ("reliability table", plain, reliability),
    ):
        wall, cpu = time.perf_counter(), time.process_time()
        table = what(p, draws=options.draws)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(
            f"{name}: {len(table)} rows, {cpu:.1f} s of processor time, {wall:.1f} s by the clock"
        )


if __name__ == "__main__":
    main()
