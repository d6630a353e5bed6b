"""A made census with a known slope, its metrics, and the contrast by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd

QUICK = {"n_boot": 200, "n_flips": 200}


def census(documents=12, tokens=10, layers=(1, 2), experts=8, top_k=3, seed=0, slope=0.0):
    """Effects that rise with the expert's number by `slope`, and a metric that is that number."""
    rng = np.random.default_rng(seed)
    frames = []
    for layer in layers:
        n = documents * tokens
        chosen = np.argsort(rng.random((n, experts)), axis=1)[:, :top_k]
        noise = rng.standard_t(4, size=(n, top_k)) + rng.normal(size=(documents, 1)).repeat(
            tokens, axis=0
        )
        value = noise + slope * chosen
        frames.append(
            pd.DataFrame(
                {
                    "document": np.repeat(np.arange(documents), tokens * top_k),
                    "position": np.tile(np.repeat(np.arange(tokens), top_k), documents),
                    "layer": layer,
                    "rank": np.tile(np.arange(top_k), n),
                    "expert": chosen.ravel(),
                    "weight": np.tile(np.linspace(0.5, 0.1, top_k), n),
                    "delta_nll": value.ravel(),
                    "kl": np.abs(value).ravel(),
                    "flip": (value > 1).ravel(),
                }
            )
        )
    metrics = pd.DataFrame(
        [
            (y, e, m, v)
            for y in layers
            for e in range(experts)
            for m, v in (("id", e), ("odd", e % 2))
        ],
        columns=["layer", "expert", "metric", "value"],
    )
    return pd.concat(frames, ignore_index=True), metrics


def by_hand(effects, layer):
    """Highest- minus lowest-numbered expert of each token, with pandas."""
    part = effects[effects.layer == layer].sort_values("expert")
    ends = part.groupby(["document", "position"])["delta_nll"].agg(["first", "last"]).reset_index()
    return ends["document"].to_numpy(), (ends["last"] - ends["first"]).to_numpy()


def unexplained(table):
    """Columns that are null in rows without a `reason`, other than those with a reason of their own."""
    rows = table[table.reason.isna()]
    for column, why in (
        ("p_experts", "no_experts"),
        ("of_oracle", "no_oracle"),
        ("d_z_crossed_low", "no_crossed"),
        ("p_tost_crossed", "no_crossed"),
        ("p_equivalence_crossed", "no_crossed"),
        ("experts_variance", "no_crossed"),
        ("experts_dof", "no_crossed"),
        ("slope_crossed_low", "no_crossed"),
    ):
        if column in rows:
            assert (rows[column].isna() == rows[why].notna()).all(), column
    told = [
        "reason",
        "caution",
        "d_z_oracle",
        "d_z_oracle_low",
        "d_z_oracle_high",
        "of_oracle",
        "no_oracle",
        "no_experts",
        "supports",
    ]
    told += ["experts", "p_experts", "p_experts_maxt", "null_low", "null_high"]
    told += ["too_few", "no_crossed", "d_z_crossed_low", "d_z_crossed_high", "p_beyond"]
    told += ["experts_variance", "experts_dof", "p_tost_crossed", "p_equivalence_crossed"]
    told += ["slope_crossed_low", "slope_crossed_high"]
    rest = rows.drop(columns=told, errors="ignore")
    return list(rest.columns[rest.isna().any()])
