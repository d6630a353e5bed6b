"""`compare`: two or more runs side by side, and the `Comparison` that it gives."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moeaudit.errors import InputError, one_of
from moeaudit.frames import Frame
from moeaudit.seeds import check_seed
from moeaudit.stats.contrast.checks import fraction, positive

from . import tables as make
from .agreed import verdicts
from .asked import across_names
from .pairs import CELLS, pair_of
from .result import Compared
from .sides import LETTERS, Side, named, opened, require_outcomes, summed

if TYPE_CHECKING:
    import plotly.graph_objects as go

OUTCOMES = ("delta_nll", "kl", "flip")
SESOI = 0.01  # nats (or, of flips, a hundredth): what pruning would notice (runs.spec.SESOI)
SHOWN_CELLS = 12  # in a notebook; the page and `.cells` have all


class Comparison(Compared):
    __doc__ = Compared.__doc__

    @property
    def sentences(self) -> list[str]:
        """What follows, the main one first."""
        from .words import sentences

        return sentences(self)

    def figure(self, outcome: str | None = None) -> go.Figure:
        """The maps of the first pair side by side (or, where experts are not compared, layers by depth), to explore.

        Raises InputError for an outcome that was not compared.
        """
        from .drawn.plotted import plotted

        return plotted(self, self._chosen(outcome))

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write one self-contained HTML page.

        Raises RunError where `path` holds anything but a page of these very runs, unless `force` (which replaces
        pages of moeaudit only), or cannot be written.
        """
        from .page import write_comparison

        return write_comparison(self, Path(path), force=force)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values; what is null has no number."""
        from .written import as_dict

        return as_dict(self)

    def _chosen(self, outcome: str | None) -> str:
        return self.outcomes[0] if outcome is None else one_of(outcome, self.outcomes, "outcome")

    def __repr__(self) -> str:
        return " ".join(self.sentences)

    def _repr_html_(self) -> str:
        from .written import small_table

        said = "".join(f"<li>{html.escape(each)}</li>" for each in self.sentences)
        parts = [f"<ul>{said}</ul>", small_table(self.whole, "All rows")]
        if not self.layers.empty:
            parts.append(small_table(self.layers.head(60), "Layers"))
        if not self.cells.empty:
            size = self.cells["difference"].to_numpy(float, na_value=np.nan)
            first = self.cells.iloc[
                np.argsort(-np.abs(np.nan_to_num(size)), kind="stable")[:SHOWN_CELLS]
            ]
            parts.append(
                small_table(
                    first, f"The {len(first)} largest of {len(self.cells)} cells (.cells has all)"
                )
            )
        return "".join(parts)


def compare(
    run_a: Any,
    run_b: Any,
    *others: Any,
    across: str | Iterable[str] | None = None,
    outcomes: str | Iterable[str] = OUTCOMES,
    names: Sequence[str] | None = None,
    cells: str = "check",
    sesoi: float | None = SESOI,
    alpha: float = 0.05,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Hold runs against each other: models, operators, checkpoints or dates on the same cells.

    Parameters
    ----------
    run_a, run_b, others
        Finished runs (`moeaudit.audit`, `Run.load`) or their folders. Each is taken from the first.
    across
        What is compared: "model", "operator", "frozen_routing", "share", "dtype", "text", several of them, or "again"
        (nothing differs). None: the one that differs; where several do, that is refused.
    outcomes
        Among "delta_nll" (harm, nats), "kl" (nats), "flip" (rate), and others that all runs hold.
    names
        What the runs are called, in order; None: by what differs.
    cells
        "check": experts are compared one by one where both runs have the same weights, or where experts of one number
        are chosen for the same tokens. "index": on your word that numbers mean the same. "none": not at all.
    sesoi
        The smallest difference of interest, in the outcome's units; None: sizes are not judged.
    alpha, level, seed
        Error rate of a family (all places of one kind, for one outcome), level of limits, seed of the sign-flips.

    Returns
    -------
    A `Comparison`. Documents are the sampling unit: where runs read the same ones, differences are paired by document;
    where they read others, both sides' uncertainty adds (docs/methods/compare.md).

    Raises
    ------
    RunError: a folder without a finished run, damaged files, questions that cannot be compared (naming the fields).
    InputError: settings that cannot be.
    """
    given = [run_a, run_b, *others]
    one_of(cells, CELLS, "cells=")
    wanted = across_names(across)
    fraction(alpha, "alpha")
    fraction(level, "level")
    check_seed(seed)
    if sesoi is not None:
        positive(sesoi, "The smallest difference of interest (sesoi)")
    if len(given) > len(LETTERS):
        raise InputError(f"{len(given)} runs were given; at most {len(LETTERS)} fit a page.")
    if names is not None and (isinstance(names, str) or len(names) != len(given)):
        raise InputError(
            f"names = {names!r}: a list of {len(given)} names was expected, one a run."
        )
    runs = [opened(run) for run in given]
    called = named(runs) if names is None else [str(name) for name in names]
    sides = [Side(letter, name, run) for letter, name, run in zip(LETTERS, called, runs)]
    asked = [outcomes] if isinstance(outcomes, str) else list(outcomes)
    kept = require_outcomes(sides, asked)
    how = make.Settings(sesoi, alpha, level, seed)
    tables = {side.letter: summed(side, kept) for side in sides}
    first = sides[0]
    pairs = [
        pair_of(first, side, (tables[first.letter], tables[side.letter]), wanted, cells, seed)
        for side in sides[1:]
    ]
    said, why = verdicts(pairs)
    many = len(pairs) > 1
    lacking = [
        f"{pair.a.letter} and {pair.b.letter}. {each}" if many else each
        for pair in pairs
        for each in pair.not_compared
    ]

    def table(place: Any) -> Frame:
        return make.differences(pairs, tables, kept, place, how)

    return Comparison(
        sides,
        pairs,
        kept,
        how,
        whole=table(make.whole),
        thirds=table(make.thirds),
        layers=table(make.layers),
        cells=table(make.experts),
        ranks=make.ranks(pairs, tables, kept, how),
        verdicts=said,
        profile=make.profile(sides, tables, kept, level),
        not_compared=[*lacking, *why],
    )
