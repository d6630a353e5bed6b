"""The published metrics with their known defects, built from a routing table.

`contrast` cannot make a defect of the metrics afterwards, so this makes the table that has it: the four
metrics of arXiv 2606.10703, correct where a switch is off and wrong in the published way where it is
on. The table says what it is (`attrs["defects"]`), which is what `contrast` asks for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError

from .checks import as_frame, finite
from .protocol import Defects

ROUTING = ["document", "position", "layer", "rank", "expert", "weight", "output_norm"]
METRICS = ("utilisation", "activation_norm", "mean_weight", "activation_sd")


def defective_metrics(
    routing: Any,
    num_experts: Mapping[int, int],
    defects: Defects,
    *,
    tested: Collection[int] | None = None,
    padding: Any = None,
    logits: Any = None,
) -> pd.DataFrame:
    """The four published metrics of every expert, with the defects that are switched on.

    Parameters
    ----------
    routing
        document, position, layer, rank, expert, weight, output_norm: a trace's `routing`, or the
        routing folder of a run. One row per chosen expert.
    num_experts
        By decoder layer index (`trace.facts.num_experts`).
    defects
        All off gives what `expert_metrics` gives for these metrics. Switches that act elsewhere
        are ignored here.
    tested
        The documents whose effects are tested: left out of the metrics or, with
        `metrics_from_tested_documents`, the only ones in them. None: all documents enter.
    padding
        For `padding_in_metrics`: routing rows of padding tokens, as captured. None: every document is
        filled up to the length of the longest, and each filling token is routed like the last one
        of its document (padding is one token over and over, and so is its routing).
    logits
        For the two logit switches: layer, expert, logit, the router's mean logit over all tokens
        (`moeaudit.observe.router_logits`; of padded documents, if padding is to count there too).

    Returns
    -------
    Columns layer, expert, metric, value; `attrs["defects"]` names the switches that acted.

    Raises InputError for missing columns, documents that leave nothing, or logits that cannot be had.
    """
    needs_logits = defects.logits_as_utilisation or defects.weight_over_all_tokens
    if needs_logits and logits is None:
        raise InputError(
            "logits_as_utilisation and weight_over_all_tokens put the router's mean logit over all "
            "tokens in place of a metric, and a routing table holds the logits of chosen experts "
            "only. Pass logits=moeaudit.observe.router_logits(model, docs)."
        )
    table = _chosen_documents(as_frame(routing, ROUTING, "The routing table"), defects, tested)
    finite(table["output_norm"].to_numpy(float), "The column output_norm of the routing table")
    if defects.padding_in_metrics:
        rows = (
            _padding(table) if padding is None else as_frame(padding, ROUTING, "The padding table")
        )
        table = pd.concat([table, rows], ignore_index=True)
    parts = []
    for layer, part in table.groupby("layer", sort=True):
        index = int(layer)  # pyright: ignore[reportArgumentType]
        if index not in num_experts:
            raise InputError(f"num_experts says nothing of layer {index}, which the routing holds.")
        values = _metrics(part, num_experts[index])
        if needs_logits:
            mean = _mean_logits(logits, num_experts[index], index)
            if defects.logits_as_utilisation:
                values["utilisation"] = mean
            if defects.weight_over_all_tokens:
                values["mean_weight"] = mean
        wide = pd.DataFrame(values).assign(layer=index, expert=np.arange(num_experts[index]))
        parts.append(wide.melt(["layer", "expert"], var_name="metric", value_name="value"))
    out = pd.concat(parts, ignore_index=True)
    out.attrs["defects"] = [name for name in Defects.IN_METRICS if getattr(defects, name)]
    return out


def _chosen_documents(
    table: pd.DataFrame, defects: Defects, tested: Collection[int] | None
) -> pd.DataFrame:
    if tested is None:
        if defects.metrics_from_tested_documents:
            raise InputError(
                "metrics_from_tested_documents needs tested=..., the documents whose effects are "
                "tested (effects['document'].unique()), and a routing table that holds them."
            )
        kept = table
    else:
        inside = table["document"].isin(list(tested))
        kept = table.loc[inside if defects.metrics_from_tested_documents else ~inside]
    if kept.empty:
        where = "in" if defects.metrics_from_tested_documents else "outside"
        raise InputError(
            f"The routing table holds no document {where} the tested ones, so there is nothing to "
            "measure the metrics on. Pass the routing of both sets of documents."
        )
    return kept


def _padding(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the last position of each document, once for every token that the document lacks."""
    document, position = (table[c].to_numpy(np.int64) for c in ("document", "position"))
    codes, names = np.unique(document, return_inverse=True)[::-1]
    end = np.full(len(names), -1)
    np.maximum.at(end, codes, position)
    tokens = np.unique(np.stack([codes, position]), axis=1)[0]
    size = np.bincount(tokens, minlength=len(names))
    last = np.flatnonzero(position == end[codes])
    rows = table.iloc[np.repeat(last, (size.max() - size)[codes[last]])].reset_index(drop=True)
    # Their own positions, behind the document's last.
    turn = rows.groupby(["document", "layer", "rank"]).cumcount()
    return rows.assign(position=rows["position"] + turn + 1)


def _metrics(part: pd.DataFrame, experts: int) -> dict[str, np.ndarray]:
    """The metrics as they should be, over whatever rows are given."""
    expert = part["expert"].to_numpy(np.int64)
    norm, weight = (part[c].to_numpy(np.float64) for c in ("output_norm", "weight"))
    tokens = int((part["rank"].to_numpy() == 0).sum())
    n = np.bincount(expert, minlength=experts).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(n > 0, np.bincount(expert, norm, experts) / n, np.nan)
        squares = np.bincount(expert, (norm - mean[expert]) ** 2, experts)
        return {
            "utilisation": n / tokens,
            "activation_norm": mean,
            "mean_weight": np.where(n > 0, np.bincount(expert, weight, experts) / n, np.nan),
            "activation_sd": np.where(n > 1, np.sqrt(squares / (n - 1)), np.nan),
        }


def _mean_logits(logits: Any, experts: int, layer: int) -> np.ndarray:
    """The router's mean logit of each expert over all tokens, chosen or not."""
    known = as_frame(logits, ["layer", "expert", "logit"], "The table of logits")
    known = known[known["layer"] == layer].set_index("expert")["logit"]
    out = known.reindex(range(experts)).to_numpy(np.float64)
    finite(out, f"The table of logits, layer {layer},", "experts")
    return out
