"""The metrics of a layer as arrays: measured on the whole text, and for each domain elsewhere or there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from moeaudit.errors import InputError
from moeaudit.frames import Frame

from ..contrast.checks import as_frame, metrics_table
from ..contrast.slots import Slots
from .labels import Labels

MEASURED = {
    "elsewhere": "metrics measured on documents of all other domains",
    "here": "metrics measured on other documents of the same domain",
}
Table = Float[np.ndarray, "domains metrics experts"]


@dataclass(frozen=True)
class Values:
    """`names` of the metrics; `whole` their table, `measured` those of `MEASURED` that there are."""

    names: list[str]
    whole: Frame
    measured: dict[str, Frame]
    domains: list[str]

    @classmethod
    def of(cls, metrics: Any, measured: Any, labels: Labels) -> Values:
        """Raises InputError for tables that lack columns, or say that metrics were measured otherwise."""
        whole = metrics_table(metrics)
        whole = whole.assign(metric=whole["metric"].astype(str), domain="")
        kinds: dict[str, Frame] = {}
        if measured is not None:
            columns = ["measured", "domain", "layer", "expert", "metric", "value"]
            given = as_frame(measured, columns, "The table of metrics by domain")
            text = {c: given[c].astype(str) for c in ("measured", "domain", "metric")}
            value = given["value"].to_numpy(dtype=np.float64, na_value=np.nan)
            given = given.assign(**text, value=value)
            odd = sorted(set(given["measured"]) - set(MEASURED))
            if odd:
                raise InputError(
                    f"Metrics by domain are measured {' or '.join(MEASURED)}; this table says {', '.join(odd)}."
                )
            kinds = {str(kind): part for kind, part in given.groupby("measured")}
        return cls(list(dict.fromkeys(whole["metric"])), whole, kinds, labels.names)

    def layer(self, layer: int, width: int) -> dict[str, Table]:
        """ "whole" (one table) and each kind of `measured`, by domain, metric and expert below `width`;
        NaN where there is no value."""
        out = {"whole": self._dense(self.whole, [""], layer, width)}
        return out | {
            kind: self._dense(part, self.domains, layer, width)
            for kind, part in self.measured.items()
        }

    def _dense(self, table: Frame, domains: list[str], layer: int, width: int) -> Table:
        out = np.full((len(domains), len(self.names), width), np.nan)
        rows = table[(table["layer"] == layer) & (table["expert"] < width)]
        at = pd.Index(domains).get_indexer(rows["domain"])
        name = pd.Index(self.names).get_indexer(rows["metric"])
        use = (at >= 0) & (name >= 0)
        expert = rows["expert"].to_numpy(np.int64)
        out[at[use], name[use], expert[use]] = rows["value"].to_numpy(float)[use]
        return out


def slot_scores(
    slots: Slots, table: Float[np.ndarray, "domains experts"], code: Int[np.ndarray, " documents"]
) -> Float[np.ndarray, "tokens top_k"]:
    """Each slot's expert scored by the table of its document's domain, or by the only one."""
    padded = np.append(table, np.full((len(table), 1), np.nan), axis=1)  # expert -1: an empty slot
    if len(table) == 1:
        return padded[0][slots.expert]
    return padded[code[slots.document][:, None], slots.expert]
