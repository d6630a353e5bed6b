"""The smallest effect of interest, in the unit that it was declared in.

d_z divides by the noise of one token, so a bound in d_z is another number of nats in every layer.
A bound can be declared in nats, or as a share of the layer's mean harm, instead; each cell's own
deviation then says what it is on the scale of d_z.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from moeaudit.errors import InputError

from ..contrast.checks import positive

IN_NATS = ("delta_nll", "abs_delta_nll", "kl", "delta_entropy")
HARMS = ("delta_nll", "abs_delta_nll", "kl")
DEFAULT, WITHOUT_NATS = (
    "0.01nats",
    0.1,
)  # where no bound was declared: in nats, and in d_z where there are none
HOW = "Give a size in d_z (0.1), in nats (0.01nats), or as a share of the layer's mean harm (50%harm)."
_FORM = re.compile(r"\s*([^\s%a-z]+(?:e[+-]?\d+)?)\s*(%?)\s*(d_z|nats?|harm)?\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Bound:
    """A size and its unit: "d_z", "nats", or "harm" (a share of the layer's mean outcome)."""

    value: float
    unit: str = "d_z"

    @staticmethod
    def parse(given: Bound | str | float | int) -> Bound:
        """Read `0.1`, `"0.1"`, `"0.01nats"` or `"50%harm"`. Raises InputError for anything else."""
        if isinstance(given, Bound):
            return given
        if isinstance(given, bool) or not isinstance(given, (str, int, float)):
            raise InputError(f"The smallest effect of interest is {given!r}. {HOW}")
        if not isinstance(given, str):
            return Bound(positive(given, "SESOI"))
        found = _FORM.fullmatch(given)
        value = math.nan
        try:
            value = float(found[1]) if found else math.nan
        except ValueError:
            found = None
        if found is None:
            raise InputError(f"The smallest effect of interest {given!r} cannot be read. {HOW}")
        percent, unit = bool(found[2]), (found[3] or "d_z").lower().rstrip("s")
        unit = "nats" if unit == "nat" else unit
        if percent != (unit == "harm"):
            why = "a share needs a % sign" if unit == "harm" else "a % must say of what"
            raise InputError(f"The smallest effect of interest {given!r} is unclear: {why}. {HOW}")
        return Bound(positive(value, "SESOI") / (100 if percent else 1), unit)

    def __str__(self) -> str:
        """The one way it is written down: `parse` reads it, and equal bounds are equal text."""
        if self.unit == "harm":
            return f"{_plain(float(f'{self.value * 100:.12g}'))}%harm"
        return _plain(self.value) + ("nats" if self.unit == "nats" else "")

    @property
    def plain(self) -> float | str:
        """A number in d_z, else the text: what a protocol holds."""
        return self.value if self.unit == "d_z" else str(self)

    def check(self, outcomes: tuple[str, ...]) -> None:
        """Refuse a unit that one of the tested outcomes does not have."""
        has = {"nats": IN_NATS, "harm": HARMS}.get(self.unit, outcomes)
        if wrong := [name for name in outcomes if name not in has]:
            raise InputError(
                f"The smallest effect of interest is {self}, and {', '.join(wrong)} is not "
                f"{'a harm' if self.unit == 'harm' else 'in nats'}. Declare it in d_z, or test only "
                f"{', '.join(has)}."
            )

    def sizes(self, sd: float, mean: float) -> tuple[float, float]:
        """(in d_z, in nats) for a cell whose differences deviate by `sd`, in a layer whose mean
        outcome is `mean`; the size of the mean counts, not its sign. NaN where that says nothing."""
        if self.unit == "d_z":
            return self.value, self.value * sd
        nats = self.value if self.unit == "nats" else self.value * abs(mean)
        return (nats / sd if sd > 0 and nats > 0 else math.nan), nats


def default_bound(outcomes: Iterable[str], *, averaged: bool = False) -> Bound:
    """The smallest effect of interest where none was declared: 0.01 nats, what pruning would notice.

    0.1 in d_z if an outcome is not in nats, or layers are `averaged` in d_z, where nats are another size in each.
    """
    return Bound.parse(WITHOUT_NATS if averaged or set(outcomes) - set(IN_NATS) else DEFAULT)


def _plain(value: float) -> str:
    return str(int(value)) if value == int(value) and value < 1e15 else repr(float(value))
