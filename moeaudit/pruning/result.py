"""What `prune_curve` returns: tables, a figure, and the experts that each criterion keeps."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError
from moeaudit.stats.least import DOCUMENTS_FOR_VERDICT

from .choose import Banned
from .export.kept import Kept
from .tables import CELL, RANDOM, Resampled, interchangeability, pairwise, random_band

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True, repr=False, eq=False)
class PruneCurve:
    """The cost of pruning by each criterion, on documents that the criteria did not see.

    `table` has one row for each pruned model: criterion, draw (-1, or the number of a random draw),
    scope, depth, keep, dropped (experts), nll with nll_low and nll_high, ppl, d_nll = nll - clean nll
    with low and high, kl = KL(clean || pruned) with kl_low and kl_high, vs_random = nll - mean nll of
    the random draws with its limits (documents and draws resampled), better_than_random = share of
    draws with a higher nll. Nats a token. `p_draws` is the chance that a random choice of as many experts
    does as well, the criterion's own choice counted, `p_draws_holm` corrects it over the criteria of a cell,
    `p_beyond` is the same of a gain cut to its lower limit less `margin`;
    `simultaneous_low`, `_high` hold the gain over random, -vs_random, of all criteria of a cell at once.
    `verdict` needs documents and draws and is never of smallness, which draws do not show;
    `verdict_these_experts` is by documents alone, `supports` says whom a row speaks of, `too_few` why documents
    are too few for a word (`moeaudit.stats.VERDICTS`; "predictive": cheaper than random by more than `margin`);
    `reason` why a row has nothing against random. `scores`: layer, expert, criterion, score. `texts` says what was
    evaluated and what criteria were computed on.
    """

    model: str
    table: pd.DataFrame
    scores: pd.DataFrame
    boot: Resampled
    banned: tuple[Banned, ...]
    experts: dict[int, int]
    margin: float
    n_calibration: int
    notes: tuple[str, ...] = ()
    texts: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def clean_nll(self) -> float:
        """Mean loss of the whole model on the evaluated documents, nats a token."""
        return float(self.boot.sums.clean.sum() / self.boot.sums.count.sum())

    @property
    def level(self) -> float:
        return self.boot.level

    def kept(
        self,
        criterion: str,
        keep: float,
        *,
        scope: str = "layer",
        depth: str = "all",
        draw: int | None = None,
    ) -> Kept:
        """Experts that stay, by decoder layer, for `export_pruned`; a dictionary that knows how they were chosen
        and what that cost, for the checkpoint's card. Raises InputError if not run."""
        draw = (0 if criterion == RANDOM else -1) if draw is None else draw
        t: Any = self.table
        hit = t[
            (t["criterion"] == criterion)
            & (t["draw"] == draw)
            & (t["scope"] == scope)
            & (t["depth"] == depth)
            & (t["keep"] == keep)
        ]
        if len(hit) != 1:
            runs = "; ".join(
                f"{name}: {', '.join(map(str, t[name].unique()))}"
                for name in ("criterion", "keep", "scope", "depth")
            )
            raise InputError(
                f"No pruned model of this curve has criterion {criterion!r}, keep {keep}, scope {scope!r}, "
                f"depth {depth!r} and draw {draw}. It ran {runs}."
            )
        gone = self.banned[int(hit.index[0])]
        experts = {
            layer: [e for e in range(count) if e not in gone.get(layer, ())]
            for layer, count in self.experts.items()
        }
        return Kept(experts, self._story(hit.iloc[0]))

    def _story(self, row: Any) -> dict[str, Any]:
        """What a card says of one pruned model, in plain numbers."""
        costs = ["nll", "ppl", "d_nll", "low", "high", "kl", "kl_low", "kl_high"]
        band: Any = self.band()
        for name in CELL:
            band = band[band[name] == row[name]]
        luck = None
        if len(band):
            only = band.iloc[0]
            luck = {"draws": int(only["draws"])}
            luck |= {name: float(only[name]) for name in ("mean", "low", "high")}
        return {
            "criterion": str(row["criterion"]),
            **{name: row[name] if name != "keep" else float(row[name]) for name in CELL},
            "draw": int(row["draw"]) if row["criterion"] == RANDOM else None,
            "whole": {"nll": self.clean_nll, "ppl": float(np.exp(self.clean_nll))},
            "pruned": {name: float(row[name]) for name in costs},
            "random": luck,
            **self.texts,
            "level": self.level,
            "seed": self.boot.seed,
        }

    def overview(self) -> pd.DataFrame:
        """The table to read: for each scope, depth and share the whole model, random choices, each criterion.

        `kind` is "whole", "random" or "criterion". Of the random choices, ppl is that of their mean nll, d_nll and
        kl are means, and the limits hold the central `level` of the draws; of criteria, documents. Nats a token.
        """
        tail = (1 - self.level) / 2
        rows: list[Any] = []
        table: Any = self.table
        for cell, group in table.groupby(CELL, sort=False):
            where = dict(zip(CELL, cell))
            clean = {"nll": self.clean_nll, "ppl": np.exp(self.clean_nll)}
            rows.append({"kind": "whole", "criterion": "whole model", **where, **clean})
            drawn: Any = group[group["criterion"] == RANDOM]
            if len(drawn):
                mean = {name: drawn[name].mean() for name in ("nll", "d_nll", "kl")}
                (low, high), (kl_low, kl_high) = (
                    np.quantile(drawn[name], [tail, 1 - tail]) for name in ("d_nll", "kl")
                )
                band = {"low": low, "high": high, "kl_low": kl_low, "kl_high": kl_high}
                about = {"kind": "random", "criterion": RANDOM, "draws": len(drawn)}
                rows.append(about | where | mean | band | {"ppl": np.exp(mean["nll"])})
            named = group[group["criterion"] != RANDOM].drop(columns="draw")
            rows += [{"kind": "criterion", **row} for row in named.to_dict("records")]
        first = ["kind", "criterion", *CELL]
        found: Any = pd.DataFrame(rows)
        return found[[*first, *(name for name in found if name not in first)]]

    def gone(self) -> pd.DataFrame:
        """Which experts went, one row each: criterion, draw, scope, depth, keep, layer, expert."""
        columns = ["criterion", "draw", *CELL]
        keys = self.table[columns].itertuples(index=False, name=None)
        rows = [
            (*key, layer, expert)
            for key, banned in zip(keys, self.banned)
            for layer, experts in banned.items()
            for expert in experts
        ]
        return pd.DataFrame(rows, columns=[*columns, "layer", "expert"])

    def band(self) -> pd.DataFrame:
        """What pruning at random costs: mean, central band and range of d_nll over the draws."""
        return random_band(self.table, self.level)

    @cached_property
    def _pairs(self) -> pd.DataFrame:
        return pairwise(self.table, self.banned, self.boot, self.margin)

    def pairs(self) -> pd.DataFrame:
        """NLL differences between all pairs of criteria, with simultaneous intervals in each cell, and the
        same words: documents say it of the experts that went, draws whether luck would do it too."""
        return self._pairs.copy()

    def interchangeability(self) -> pd.DataFrame:
        """Whether the criterion matters, for each scope, depth and share kept.

        `verdict` is "interchangeable" if all pairwise intervals lie within +-`margin` nats, else "not
        interchangeable" if one of them excludes 0, else "undecided". With fewer than 12 evaluated
        documents intervals by document are too rough for a verdict: always "undecided". These are
        statements about the experts that went; `supports` and `p_spread` say whether criteria also range
        more widely than as many random choices among themselves.
        """
        return interchangeability(
            self.table, self._pairs, margin=self.margin, seed=self.boot.seed, level=self.level,
            few=len(self.boot.sums.document) < DOCUMENTS_FOR_VERDICT,
        )  # fmt: skip

    def figure(self, outcome: str = "d_nll") -> go.Figure:
        """Cost against the share kept, a panel for each scope and depth, random draws as a band."""
        from .figure import curve_figure

        return curve_figure(self.table, outcome, model=self.model, level=self.level)

    def __repr__(self) -> str:
        sums = self.boot.sums
        t: Any = self.table
        criteria = [c for c in t["criterion"].unique() if c != RANDOM]
        draws = int((t["draw"].max()) + 1)
        return (
            f"Pruning of {self.model} by {', '.join(criteria) or 'no criterion'} and {draws} random draws, "
            f"scored on {self.n_calibration} documents, evaluated on {len(sums.document)} others "
            f"({int(sums.count.sum()):,} tokens; whole model: {self.clean_nll:.4f} nats a token)."
        )

    def _repr_html_(self) -> str:
        shown: Any = self.overview()
        columns = ["criterion", "scope", "depth", "keep", "ppl", "d_nll", "low", "high", "kl"]
        columns += ["vs_random", "vs_random_low", "vs_random_high", "better_than_random"]
        columns += ["p_draws_holm", "verdict", "supports", "reason"]
        shown = shown[[name for name in columns if name in shown]]
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        parts = [
            f"<p>{html.escape(repr(self))} Intervals: {self.level:.0%}, documents resampled.</p>"
        ]
        parts.append(shown.to_html(index=False, na_rep="", float_format=lambda v: f"{v:.4f}"))
        if len(self._pairs):
            between = self.interchangeability()
            parts.append(between.to_html(index=False, float_format=lambda v: f"{v:.4f}"))
        return "".join(parts) + (f"<ul>{notes}</ul>" if notes else "")
