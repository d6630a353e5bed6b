"""Do active experts stand in for one another, and does that change with depth?

    python -m analyses.redundancy_by_depth --out DIR [--model NAME ...] [--documents 48] [--tokens 48]

For every token and layer all sets of active experts are removed, exactly. Three summaries by layer,
each with a 95 % percentile interval over resampled documents: the redundancy index 1 - joint/sum
(of delta NLL and of KL), the mean pair interaction as a share of the mean single effect, and how many
experts share the joint KL (the effective number of Shapley values). Writes table.csv, figure.svg and
index.html; the same call gives the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

import moeaudit as ma
from moeaudit.stats.clustered import safe_ratio_draws
from moeaudit.stats.sizes.bootstrap import document_weights, percentile_limits
from moeaudit.text.for_model import first_tokens

from .page import write_page

N_BOOT = 1999


def texts(model: ma.Model, documents: int, tokens: int, seed: int) -> list[np.ndarray]:
    """The first `tokens` tokens of a random sample of the bundled test documents."""
    corpus = ma.corpus("bundled", split="test").sample(documents, seed=seed)
    return first_tokens(model, corpus, tokens)


def mean_limits(
    value: np.ndarray, over: np.ndarray | None, document: np.ndarray, seed: int
) -> tuple[float, float, float]:
    """Mean of `value`, or ratio of the means of `value` and `over`, with limits over documents.

    NaN throughout where the mean below the line is not told apart from 0.
    """
    over = np.ones_like(value) if over is None else over
    names, place = np.unique(document, return_inverse=True)
    sums = [np.bincount(place, weights=x) for x in (value, over)]
    draws = safe_ratio_draws(*sums, document_weights(len(names), N_BOOT, seed))
    if draws is None:
        return float("nan"), float("nan"), float("nan")
    return float(sums[0].sum() / sums[1].sum()), *percentile_limits(draws)


def effective_number(shares: np.ndarray) -> np.ndarray:
    """How many experts share a token's effect: (sum |phi|)^2 / sum phi^2, from 1 to k."""
    magnitude = np.abs(shares)
    return magnitude.sum(1) ** 2 / (magnitude**2).sum(1)


def layers_of(name: str, effects: pd.DataFrame, seed: int) -> list[dict[str, object]]:
    """One row for each layer and summary."""
    rows: list[dict[str, object]] = []

    def add(layer: int, summary: str, estimate: float, low: float, high: float) -> None:
        rows.append(
            {"model": name, "layer": layer, "summary": summary}
            | {"estimate": estimate, "low": low, "high": high}
        )

    for outcome in ("delta_nll", "kl"):
        found = ma.redundancy(effects, outcome, seed=seed, n_boot=N_BOOT)
        for row in found.itertuples():
            add(row.layer, f"redundancy, {outcome}", row.redundancy, row.low, row.high)
            add(row.layer, f"joint, {outcome}", row.joint, *[float("nan")] * 2)
            add(row.layer, f"sum of singles, {outcome}", row.sum_of_singles, *[float("nan")] * 2)
        pairs = ma.interactions(effects, outcome)
        singles = (pairs.single + pairs.single_other) / 2
        for layer, part in pairs.groupby("layer"):
            found = mean_limits(
                part.interaction.to_numpy(),
                singles[part.index].to_numpy(),
                part.document.to_numpy(),
                seed,
            )
            add(int(layer), f"pair interaction over single, {outcome}", *found)
    shares = ma.shapley(effects, "kl")
    top_k = int(shares["rank"].max()) + 1
    wide = shares.shapley.to_numpy().reshape(-1, top_k)  # rows are sorted by token, then rank
    tokens = shares[shares["rank"] == 0]
    spread, first = effective_number(wide), wide[:, 0]
    for layer in sorted(tokens.layer.unique()):
        here = (tokens.layer == layer).to_numpy() & (np.abs(wide).sum(1) > 0)
        document = tokens.document.to_numpy()[here]
        add(layer, "effective experts, kl", *mean_limits(spread[here], None, document, seed))
        joint = wide[here].sum(1)
        add(layer, "share of rank 0, kl", *mean_limits(first[here], joint, document, seed))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", nargs="*", default=None, help="default: all bundled models")
    parser.add_argument("--documents", type=int, default=48)
    parser.add_argument("--tokens", type=int, default=48, help="first tokens of each document")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rows, facts = [], []
    for name in given.model or ma.bundled_models():
        model = ma.load(name)
        read = texts(model, given.documents, given.tokens, given.seed)
        effects = ma.ablate(model, read, ma.Coalitions())
        check = ma.verify(effects, model, n=8)
        rows += layers_of(name, effects, given.seed)
        facts.append(
            {
                "model": name,
                "top_k": model.anatomy.layers[0].top_k,
                "documents": len(read),
                "tokens": int(effects.groupby(["document", "position"]).ngroups),
                "counterfactuals": len(effects),
                "verified": repr(check),
            }
        )
        print(f"{name}: {len(effects):,} counterfactuals. {check}", flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows)
    table.to_csv(given.out / "table.csv", index=False, float_format="%.6g")
    write_page(given.out, table, pd.DataFrame(facts))
    print(f"Wrote {given.out / 'index.html'}")


if __name__ == "__main__":
    main()
