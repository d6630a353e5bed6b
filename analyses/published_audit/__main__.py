"""The released per-token results of arXiv 2606.10703, reproduced and then judged by document.

    python -m analyses.published_audit --data DIR --out DIR

DIR holds `layer_NN_results.json` files of one model, or sub-folders that do. Every published cell is
recomputed from its own pairs (cells.csv: d_z with the published ddof = 0 deviation, p_t, p_wilcoxon)
and set beside the published numbers; then the same pairs are judged with documents as clusters, one
correction over all cells, an equivalence bound and the design's power, for the signed change of loss
(harm) and for its magnitude (disturbance, columns `abs_...`).

The control, the pair with the largest and smallest gate weight of the token itself, is read where its pairs
were released (DeepSeek: routing_weight_control_all_layers_full_deepseek.json, beside the layer files). It
names no texts, so its tokens count as independent. Verdicts are for these experts: only two of a token's
active experts were measured for a metric, so the metric cannot be dealt to other experts.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from moeaudit.errors import InputError
from moeaudit.stats import Protocol, effect_size, get_protocol
from moeaudit.stats.contrast.cells import Cell
from moeaudit.stats.contrast.over_experts import PER_TOKEN
from moeaudit.stats.contrast.table import cells_table
from moeaudit.stats.families.experts import none
from moeaudit.stats.families.pooled import pool_cells
from moeaudit.stats.sizes.power import power_t

from .files import PUBLISHED, Released, read_folder
from .page import write_page

TOLERANCE = 1e-6
CLUSTERS = ("sample_idx", "text")


def cells_of(released: list[Released], cluster: str, magnitude: bool) -> tuple[list[Cell], int]:
    """Cells with one numbering of documents; without the asked cluster every token is its own."""
    keys = [r.clusters.get(cluster, r.clusters["token"]) for r in released]
    names = np.unique(np.concatenate(keys)) if keys else np.empty(0, dtype=int)
    cells = [
        Cell(
            metric=r.metric,
            role=r.role,
            layer=r.layer,
            document=np.searchsorted(names, key).astype(np.int64),
            high=np.abs(r.high) if magnitude else r.high,
            low=np.abs(r.low) if magnitude else r.low,
            n_offered=len(r.high) + r.n_bad,
            reason=f"{r.n_bad} comparisons are NaN or infinite" if r.n_bad else None,
            null=none(NOT_DEALT if r.role == "metric" else PER_TOKEN),
        )
        for r, key in zip(released, keys)
    ]
    return cells, len(names)


OURS = [
    *("d_z_low", "d_z_high", "rank_biserial", "rank_biserial_low", "rank_biserial_high"),
    *("design_effect", "p_cluster", "p_flip", "p_bonferroni", "p_holm", "p_hochberg"),
    *(
        "p_bh",
        "p_by",
        "p_maxt",
        "p_rank_flip",
        "p_rank_maxt",
        "p_tost",
        "p_equivalence",
        "power_at_sesoi",
        "mde",
    ),
    *("n_to_decide", "n_documents_to_decide", "largest_held_out"),
    *("verdict", "supports", "no_experts", "reason", "caution"),
]
# A deal of a metric to other experts names other pairs of the active ones, and these were not released.
NOT_DEALT = "the files hold the effects of two of a token's active experts only, so a metric cannot be dealt to others"
NO_TEXT = "not poolable: the file does not say which text a token is of, and layers have tokens of their own"


def audit_model(released: list[Released], protocol: Protocol, cluster: str) -> pd.DataFrame:
    """One row per published cell: reproduction, then our columns, signed and (`abs_`) magnitude.

    The cells of one call share one numbering of documents: give metrics and control apart.
    """
    rows = pd.DataFrame(
        {
            "model": [r.model for r in released],
            "layer": [r.layer for r in released],
            "metric": [r.metric for r in released],
            "role": [r.role for r in released],
            "n": [len(r.high) for r in released],
            "n_dropped": [r.n_bad for r in released],
        }
    )
    for magnitude in (False, True):
        prefix = "abs_" if magnitude else ""
        cells, documents = cells_of(released, cluster, magnitude)
        table = cells_table(cells, documents, protocol, sizes=("d_z", "rank_biserial"))
        # The published d divides by the ddof = 0 deviation; ours, and its interval, by ddof = 1.
        n = table["n"].to_numpy(float)
        rows[f"{prefix}d_z"] = table["d_z"] * np.sqrt(n / np.maximum(n - 1, 1))
        rows[f"{prefix}p_t"] = table["p_t"]
        rows[f"{prefix}p_wilcoxon"] = table["p_wilcoxon"]
        if not magnitude:
            rows["mean_difference"] = table["mean_difference"]
            _compare(rows, released)
            limits = [effect_size("d_z", r.high, r.low, interval="token") for r in released]
            rows["d_z_published_low"] = [x.low for x in limits]
            rows["d_z_published_high"] = [x.high for x in limits]
            rows["clustered_by"] = [cluster if cluster in r.clusters else "token" for r in released]
            rows["n_documents"] = table["n_documents"]
            rows["sesoi"] = protocol.sesoi
        rows[f"{prefix}d_z_ddof1"] = table["d_z"]
        for name in OURS:
            rows[prefix + name] = table[name]
        rows["family_size"] = table["family_size"]
    return rows


def _compare(rows: pd.DataFrame, released: list[Released]) -> None:
    """What was published, and the largest difference of ours from it, cell by cell."""
    worst = np.full(len(rows), np.nan)
    lost = np.zeros(len(rows), dtype=bool)  # published, but not to be had from the pairs
    for name in PUBLISHED:
        theirs = np.array([r.published.get(name, np.nan) for r in released])
        rows[f"published_{name}"] = pd.array(theirs, dtype="Float64")
        gap = np.abs(rows[name].to_numpy(float, na_value=np.nan) - theirs)
        lost |= np.isnan(gap) & ~np.isnan(theirs)
        worst = np.fmax(worst, gap)
    rows["largest_difference"] = worst
    rows["reproduced"] = [
        "no" if none else "nothing published" if np.isnan(w) else "yes" if w <= TOLERANCE else "no"
        for w, none in zip(worst, lost)
    ]


def pooled_model(released: list[Released], protocol: Protocol, cluster: str) -> pd.DataFrame:
    """Each metric over all layers of a model, signed and magnitude; what names no texts, with the reason."""
    tables = []
    if not any(cluster in r.clusters for r in released):
        names = list(dict.fromkeys(r.metric for r in released))
        rows = [
            {"model": released[0].model, "outcome": outcome, "metric": name, "role": released[0].role,
             "verdict": "not estimable", "reason": NO_TEXT}
            for outcome in ("delta_nll", "abs_delta_nll")
            for name in names
        ]  # fmt: skip
        return pd.DataFrame(rows)
    for outcome, magnitude in (("delta_nll", False), ("abs_delta_nll", True)):
        cells, documents = cells_of(released, cluster, magnitude)
        table = pool_cells(cells, documents, protocol)
        table.insert(0, "outcome", outcome)
        table.insert(0, "model", released[0].model)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of layer_NN_results.json")
    parser.add_argument("--out", type=Path, required=True, help="where cells.csv and the page go")
    parser.add_argument("--sesoi", type=float, default=0.1, help="smallest d_z of interest")
    parser.add_argument("--cluster", choices=CLUSTERS, default="sample_idx")
    options = parser.parse_args(arguments)
    try:
        protocol = get_protocol("moeaudit").with_(sesoi=options.sesoi)
        released = read_folder(options.data)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    models = list(dict.fromkeys(r.model for r in released))
    kinds = dict.fromkeys((r.model, r.role) for r in released)
    by_model = [[r for r in released if (r.model, r.role) == kind] for kind in kinds]
    other = CLUSTERS[1 - CLUSTERS.index(options.cluster)]
    cells = pd.concat([audit_model(r, protocol, options.cluster) for r in by_model])
    again = pd.concat([audit_model(r, protocol, other) for r in by_model])
    for prefix in ("", "abs_"):
        cells[f"{prefix}verdict_by_{other}"] = again[f"{prefix}verdict"]
    over_layers = pd.concat([pooled_model(r, protocol, options.cluster) for r in by_model])
    options.out.mkdir(parents=True, exist_ok=True)
    cells.to_csv(options.out / "cells.csv", index=False)
    over_layers.to_csv(options.out / "pooled.csv", index=False)
    design = {d: power_t(d, 200**-0.5, 199.0, 0.05 / 20) for d in (0.1, 0.15, 0.222)}
    write_page(options.out / "index.html", cells, over_layers, design)
    done = cells["reproduced"].value_counts().to_dict()
    metric = cells["role"] == "metric"
    controls = cells[~metric]
    print(f"{len(cells)} cells of {', '.join(models)}; reproduced to {TOLERANCE:g}: {done}")
    worst = cells["largest_difference"].max()
    said = "there is none" if np.isnan(worst) else f"{worst:.1e}"
    print(f"largest difference from a published number: {said}")
    for name, prefix in (("signed change of loss", ""), ("magnitude", "abs_")):
        print(
            f"{name}, these experts: {cells[metric][prefix + 'verdict'].value_counts().to_dict()}"
        )
        if len(controls):
            found = controls[prefix + "verdict"].value_counts().to_dict()
            print(f"{name}, control (the token's own gate weight): {found}")
    print(f"verdicts speak of these experts: {NOT_DEALT}")
    without = [m for m in models if m not in set(controls["model"])]
    if without:
        print(
            f"no control: its pairs were not found beside the layer files of {', '.join(without)}"
        )
    print(f"wrote {options.out / 'cells.csv'}, pooled.csv and index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
