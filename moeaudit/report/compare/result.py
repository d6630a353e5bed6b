"""What a comparison found: runs, pairs and tables. How it shows itself is `comparison.Comparison`'s affair."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from moeaudit.frames import Frame
from moeaudit.stats.difference.verdicts import SAME

from .agreed import counted
from .pairs import Pair
from .sides import Side
from .tables import Settings


@dataclass(frozen=True)
class Compared:
    """Runs side by side; differences are of the first run (A) less another (B, C, ...), in the outcome's units.

    Tables, one row per outcome, pair and place: `whole`, `thirds` (of the depth), `layers`, `cells` (layer, expert),
    each with `mean_a`, `mean_b`, `difference`, `low`, `high` (of that place alone), `p`, `p_corrected` (over the
    outcome's places), `verdict` and `too_few`. `ranks`: agreement of the experts' order, by layer. `verdicts`: what
    each run said of routing metrics; `agreement` counts these. `profile`: each run's layers by relative depth. Tables
    of places that the runs do not share are empty, and `not_compared` says why.
    """

    sides: list[Side]
    pairs: list[Pair]
    outcomes: list[str]
    how: Settings
    whole: Frame
    thirds: Frame
    layers: Frame
    cells: Frame
    ranks: Frame
    verdicts: Frame
    profile: Frame
    not_compared: list[str]

    @cached_property
    def agreement(self) -> Frame:
        return counted(self.verdicts)

    @property
    def identical(self) -> bool:
        """Whether every difference is exactly 0.0, since all runs hold the same sums in every cell."""
        tables = (self.whole, self.layers, self.cells)
        return all((table["verdict"] == SAME).all() for table in tables if not table.empty)
