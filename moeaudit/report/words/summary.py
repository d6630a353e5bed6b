"""The numbers behind the figures: means with document-clustered intervals, quantiles, counts.

Everything here is a plain table. Raw values stay raw; rounding is the display's affair. Each summary
reduces a frame of effects to a small part and puts the parts together, so that all of them are made in
one pass over shards (`summaries`), whatever the size of the census.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from moeaudit.frames import Column, Frame
from moeaudit.stats.clustered import Clustered
from moeaudit.stats.contrast.frames import frames_of

QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
LEVEL = 0.95
OUTCOMES = ["delta_nll", "kl", "flip"]


@runtime_checkable
class Summary(Protocol):
    """What `summaries` asks of a summary; `columns` are those of the effects that it reads."""

    @property
    def columns(self) -> list[str]: ...

    def part(self, effects: Frame) -> Any:
        """What is kept of one frame, in which documents are whole."""
        ...

    def whole(self, parts: list[Any]) -> Frame:
        """The table, from the parts of all frames in order."""
        ...


def summaries(effects: Any, wanted: Mapping[str, Summary]) -> dict[str, Frame]:
    """Several summaries in one pass; `effects` is a table, or shards with `frames(columns)`."""
    parts: dict[str, list[Any]] = {name: [] for name in wanted}
    columns = list(dict.fromkeys(c for summary in wanted.values() for c in summary.columns))
    for frame in frames_of(effects, columns, "The effects table"):
        for name, summary in wanted.items():
            parts[name].append(summary.part(frame))
    return {name: summary.whole(parts[name]) for name, summary in wanted.items()}


@dataclass(frozen=True)
class Means:
    """One row per group of `by`: mean harm, KL, flip rate with intervals; share that harms."""

    by: tuple[str, ...]
    values: tuple[str, ...] = ("delta_nll", "kl", "flip", "harmful")
    limits: str = "student"

    @property
    def columns(self) -> list[str]:
        made = ("all", "domain")  # columns that are put beside the effects
        return ["document", *(name for name in self.by if name not in made), *OUTCOMES]

    def _means(self) -> Clustered:
        return Clustered(self.by, self.values, limits=self.limits, level=LEVEL)

    def part(self, effects: Frame) -> Frame:
        table = effects.assign(all=0, harmful=effects["delta_nll"] > 0)
        return self._means().sums(table)

    def whole(self, parts: list[Frame]) -> Frame:
        return self._means().means(parts)


@dataclass(frozen=True)
class Cells:
    """One row per (layer, expert), also for experts that were never active.

    What one expert does in a few documents is skewed, and Student's limits of it are short: "adjusted" ones.
    """

    experts_of: Mapping[int, int]
    limits: str = "adjusted"

    @property
    def columns(self) -> list[str]:
        return ["document", "position", "layer", "expert", *OUTCOMES]

    def part(self, effects: Frame) -> tuple[Frame, Column]:
        means = Means(("layer", "expert"), ("delta_nll", "kl", "flip"), self.limits)
        tokens = effects.groupby("layer")[["document", "position"]].apply(
            lambda f: len(f.drop_duplicates())
        )
        return means.part(effects), tokens

    def whole(self, parts: list[tuple[Frame, Column]]) -> Frame:
        means = Means(("layer", "expert"), ("delta_nll", "kl", "flip"), self.limits)
        table = means.whole([sums for sums, _ in parts])
        tokens: Column = pd.concat([tokens for _, tokens in parts]).groupby(level=0).sum()
        layers = sorted(int(x) for x in tokens.index)
        grid = pd.MultiIndex.from_tuples(
            [(layer, e) for layer in layers for e in range(self.experts_of[layer])],
            names=["layer", "expert"],
        )
        full = table.set_index(["layer", "expert"]).reindex(grid).reset_index()
        full["rows"] = full["rows"].fillna(0).astype("int64")
        full["documents"] = full["documents"].fillna(0).astype("int64")
        full["share"] = full["rows"] / full["layer"].map(tokens)
        return full


@dataclass(frozen=True)
class Spread:
    """One row per layer: quantiles of the signed effect. They need every effect: 4 bytes a row."""

    @property
    def columns(self) -> list[str]:
        return ["layer", "delta_nll"]

    def part(self, effects: Frame) -> dict[int, np.ndarray]:
        groups = effects.groupby("layer")["delta_nll"]
        return {int(layer): values.to_numpy() for layer, values in groups}

    def whole(self, parts: list[dict[int, np.ndarray]]) -> Frame:
        layers = sorted({layer for part in parts for layer in part})
        return pd.DataFrame(
            [
                _spread_of(layer, np.concatenate([part[layer] for part in parts if layer in part]))
                for layer in layers
            ]
        )


@dataclass(frozen=True)
class ByDomain:
    """One row per (domain, layer); `tokens` says the domain of each document."""

    tokens: Frame
    limits: str = "student"

    @property
    def columns(self) -> list[str]:
        return ["document", "layer", *OUTCOMES]

    def part(self, effects: Frame) -> Frame:
        domain = self.tokens.drop_duplicates("document").set_index("document")["domain"].astype(str)
        table = effects.assign(domain=effects["document"].map(domain))
        return Means(("domain", "layer"), ("delta_nll", "kl"), self.limits).part(table)

    def whole(self, parts: list[Frame]) -> Frame:
        return Means(("domain", "layer"), ("delta_nll", "kl"), self.limits).whole(parts)


@dataclass(frozen=True)
class TokenEffects:
    """One row per (document, position)."""

    @property
    def columns(self) -> list[str]:
        return ["document", "position", "layer", "expert", *OUTCOMES]

    def part(self, effects: Frame) -> Frame:
        effects = effects.reset_index(drop=True)
        by = ["document", "position"]
        groups = effects.groupby(by)
        worst = effects.loc[groups["delta_nll"].idxmax()].set_index(by)
        table = groups.agg(
            harm=("delta_nll", "mean"),
            kl=("kl", "mean"),
            flips=("flip", "sum"),
            removals=("flip", "size"),
        )
        table["worst"] = worst["delta_nll"]
        table[["layer", "expert"]] = worst[["layer", "expert"]]
        return table.reset_index()

    def whole(self, parts: list[Frame]) -> Frame:
        if len(parts) == 1:
            return parts[0]
        return pd.concat(parts).sort_values(["document", "position"], ignore_index=True)


def clustered_means(
    frame: Frame, values: list[str], by: list[str], cluster: str = "document"
) -> Frame:
    """Mean of each value in each group, with a 95% interval: `stats.clustered`."""
    return Clustered(by, values, level=LEVEL, cluster=cluster)(frame)


def limits_of(share: float) -> str:
    """Which limits the means of a run have: those of a sample also hold where documents are skewed."""
    return "student" if share == 1 else "adjusted"


def overall(effects: Any, limits: str = "student") -> dict[str, float]:
    """One row for all effects: mean harm, KL and flip rate with intervals, share harmful."""
    return as_row(summaries(effects, {"all": Means(("all",), limits=limits)})["all"])


def as_row(table: Frame) -> dict[str, float]:
    """The only row of the summary `Means(("all",))`."""
    return {str(key): float(value) for key, value in table.iloc[0].items() if key != "all"}


def cells(effects: Any, experts_of: Mapping[int, int]) -> Frame:
    """One row per (layer, expert) of the audited layers, also for experts that were never active.

    `share` is the fraction of the audited tokens for which the expert was active.
    """
    return summaries(effects, {"cells": Cells(experts_of)})["cells"]


def depth(effects: Any) -> Frame:
    """One row per layer: mean harm, KL, flip rate with intervals; share of removals that harm."""
    return summaries(effects, {"depth": Means(("layer",))})["depth"]


def spread(effects: Any) -> Frame:
    """One row per layer: quantiles of the signed effect, and how concentrated the effects are.

    `top1` and `top10` are the shares of the layer's total |delta_nll| that the largest 1% and 10%
    of its removals carry.
    """
    return summaries(effects, {"spread": Spread()})["spread"]


def by_domain(effects: Any, tokens: Frame) -> Frame:
    """One row per (domain, layer): mean harm and KL with intervals."""
    return summaries(effects, {"domains": ByDomain(tokens)})["domains"]


def token_effects(effects: Any) -> Frame:
    """One row per (document, position): its mean harm over all removals, and the worst of them."""
    return summaries(effects, {"tokens": TokenEffects()})["tokens"]


def _spread_of(layer: int, effects: np.ndarray) -> dict[Any, Any]:
    values = effects.astype("float64")
    size = np.sort(np.abs(values))[::-1]
    total = size.sum()
    shares = {
        name: size[: max(1, int(np.ceil(part * len(size))))].sum() / total if total else 0.0
        for name, part in (("top1", 0.01), ("top10", 0.10))
    }
    quantiles = dict(zip(QUANTILES, np.quantile(values, QUANTILES)))
    extremes = {"least": values.min(), "most": values.max()}
    return {"layer": layer, "rows": len(values), **quantiles, **extremes, **shares}
