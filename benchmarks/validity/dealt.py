"""A finished run whose metrics are dealt to other experts: effects as they are, metrics that know nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from moeaudit.runs.stages import distinct_metrics
from moeaudit.stats.contrast.cells import Cell, metric_score, pair
from moeaudit.stats.contrast.slots import Census, Slots
from moeaudit.stats.families.experts import Null, Shuffles, nulls

NULL = 999  # deals that one audit is held against


@dataclass(frozen=True)
class Layer:
    """A layer's tokens and its metrics, in the order of `shuffles.expert`."""

    slots: Slots
    shuffles: Shuffles
    values: np.ndarray  # (metrics, experts)

    @cached_property
    def place(self) -> np.ndarray:
        return np.searchsorted(self.shuffles.expert, self.slots.expert)

    @cached_property
    def mean(self) -> float:
        """Of the outcome over all rows."""
        return float(self.slots.value[self.slots.present].mean())

    def given(self, metric: int, i: int) -> np.ndarray:
        """A metric as deal i gives it to the experts; one without a value stays without."""
        values = self.values[metric]
        use, out = np.isfinite(values), values.copy()
        out[use] = values[use][self.shuffles.among(use)[i]]
        return out

    def pairs(self, metric: int, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Document, difference and pair of experts of each token, the metric as deal i gives it."""
        given = self.given(metric, i)
        plain = self.slots.present.all() and len(np.unique(given[np.isfinite(given)])) == len(given)
        if not plain:  # ties and gaps have rules
            score = metric_score(self.slots, self.shuffles.expert, given)
            cell = pair(self.slots, score, "noise", "metric")
            assert cell.pair is not None
            return cell.document, cell.difference, cell.pair
        score, row = given[self.place], np.arange(len(self.place))
        ends = np.stack([score.argmax(axis=1), score.argmin(axis=1)], axis=1)
        value = np.take_along_axis(self.slots.value, ends, axis=1)
        chosen = self.slots.expert[row[:, None], ends]
        return self.slots.document, value[:, 0] - value[:, 1], chosen


class Dealt:
    """One outcome of a run: deals 1 to `audits` are audits, `banks` further sets of deals their nulls.

    Audit i is held against bank i modulo `banks`. One bank for all would make every row hang on
    the luck of one set of deals: its 95 % quantile alone moves the share by .007.
    """

    def __init__(
        self,
        run: Path,
        outcome: str,
        audits: int,
        banks: int,
        *,
        seed: int = 0,
        inside: str = "effects",
    ) -> None:
        files = sorted((run / inside).glob("*.parquet"))
        self.effects = pd.concat([pd.read_parquet(f) for f in files], ignore_index=True)
        self.experts = distinct_metrics(pd.read_parquet(run / "experts.parquet"))[0]
        self.names = [str(n) for n in dict.fromkeys(self.experts["metric"].astype(str))]
        self.audits, self.banks = audits, banks
        census = Census(self.effects, outcome)
        self.documents, self.layers = (
            census.documents,
            [self._layer(census.slots(layer), seed) for layer in census.layers],
        )

    def _layer(self, slots: Slots, seed: int) -> Layer:
        shuffles = Shuffles.of(slots, self.audits + NULL * self.banks, seed + 1)
        mine = self.experts[self.experts["layer"] == slots.layer]
        wide = mine.pivot(index="metric", columns="expert", values="value")
        wide = wide.reindex(index=self.names, columns=shuffles.expert)
        return Layer(slots, shuffles, wide.to_numpy(float))

    @cached_property
    def contrasts(self) -> list[Null]:
        """d_z of every cell (layer by layer, metrics within) in every deal."""
        out: list[Null] = []
        for layer in self.layers:
            part = np.zeros(len(layer.slots.document), dtype=np.int64)
            out += nulls(layer.slots, [layer.values], part, layer.shuffles)
        return out

    def held(self, every: Sequence[Null], i: int) -> list[Null]:
        """The nulls of audit i: deal i as what was observed, and the deals of its bank."""
        start = 1 + self.audits + NULL * (i % self.banks)
        return [
            x
            if x.reason is not None
            else replace(x, statistic=np.append(x.statistic[i], x.statistic[start : start + NULL]))
            for x in every
        ]

    def cells(self, i: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """`Layer.pairs` of every cell in audit i."""
        return [y.pairs(m, i) for y in self.layers for m in range(len(self.names))]

    def as_cells(self, i: int, held: Sequence[Null], chosen: Sequence[int]) -> list[Cell]:
        """Some cells of audit i as the package has them. Differences stand for the higher, 0 for the lower."""
        out = []
        for k in chosen:
            layer, metric = self.layers[k // len(self.names)], k % len(self.names)
            document, difference, pair_of = layer.pairs(metric, i)
            low, offered = np.zeros(len(difference)), len(layer.slots.document)
            cell = Cell(
                self.names[metric], "metric", layer.slots.layer, document, difference, low, offered
            )
            out.append(replace(cell, null=held[k], layer_mean=layer.mean, pair=pair_of))
        return out

    def table(self, i: int) -> pd.DataFrame:
        """The metrics of audit i: layer, expert, metric, value."""
        parts = []
        for layer in self.layers:
            for m, name in enumerate(self.names):
                known = {"layer": layer.slots.layer, "expert": layer.shuffles.expert}
                parts.append(pd.DataFrame({**known, "metric": name, "value": layer.given(m, i)}))
        return pd.concat(parts, ignore_index=True)


def shares(said: Sequence[dict[str, bool]]) -> dict[str, float]:
    """Of the audits that say anything of it, the share that says yes."""
    return {
        name: float(np.mean([x[name] for x in said if name in x]))
        for name in dict.fromkeys(k for x in said for k in x)
    }


def told(rows: dict[str, dict[str, float]]) -> str:
    """A table with a column for each outcome."""
    heads = list(rows)
    lines = [f"| share of audits | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    for name in rows[heads[0]]:
        lines.append(f"| {name} | {' | '.join(f'{rows[h].get(name, 0):.3f}' for h in heads)} |")
    return "\n".join(lines)
