"""What a forecast of prunability says of noise, and of a sign that was planted.

    python -m benchmarks.validity.forecast

Tables of 12 recipes with three seeds and six signs. Noise: log losses differ by recipe (standard deviation .5) and by
seed (.1) and no sign knows; planted: the first sign is added. Prints the mean factors, how often the gain over the mean
of the other recipes is claimed to be above zero, and the share of recipes left out that lie within 80 % limits.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

from moeaudit.pruning.forecast.fit import left_out, trust

SIGNS = list("abcdef")


def table(
    rng: np.random.Generator, effect: float, recipes: int = 12, seeds: int = 3
) -> pd.DataFrame:
    """One row a model: recipe, six signs, the loss in nats."""
    own = np.repeat(rng.normal(size=(recipes, len(SIGNS))), seeds, 0)
    signs = own + 0.3 * rng.normal(size=own.shape)
    noise = np.repeat(rng.normal(size=recipes) * 0.5, seeds) + 0.1 * rng.normal(size=len(own))
    frame = pd.DataFrame(signs, columns=SIGNS)
    name = np.repeat([f"recipe {i}" for i in range(recipes)], seeds)
    return frame.assign(recipe=name, lost=np.exp(effect * signs[:, 0] + noise - 2))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tables", type=int, default=100)
    given = parser.parse_args(argv)
    rng = np.random.default_rng(0)
    print(
        "| planted | off by a factor of | the mean's | gain claimed | within 80 % limits |\n|---|---|---|---|---|"
    )
    for effect in (0.0, 1.0):
        drawn = [table(rng, effect) for _ in range(given.tables)]
        told = pd.DataFrame(
            [trust(left_out(each, "lost", SIGNS), left_out(each, "lost", [])) for each in drawn]
        )
        claims = int((told["gain_low"] > 0).sum())
        print(
            f"| {effect:g} | {told['factor'].mean():.2f} | {told['baseline'].mean():.2f} "
            f"| {claims} of {len(told)} | {told['covered'].mean():.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
