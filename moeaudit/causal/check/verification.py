"""What a verification found, and when two forwards count as agreeing."""

from __future__ import annotations

import html
from dataclasses import dataclass, field

import pandas as pd

# What rounding explains between a replayed and a full forward, in nats, if the model is float32.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Verification:
    """How far sampled effects are from an independent recomputation, in nats.

    `rows` holds the sampled effects beside the recomputed ones (columns delta_nll, kl, flip and
    the same with the prefix `engine_`). If the engine cannot edit this model, or not so, `n` is 0, the
    differences are NaN and `skipped` says why: nothing was verified.
    """

    engine: str
    n: int
    max_abs_delta_nll: float
    max_abs_kl: float
    flips_differ: int
    rows: pd.DataFrame = field(repr=False)
    skipped: str | None = None
    dtype: str = "float32"
    tolerance: float = TOLERANCE
    # Sampled rows beside these `n` that half precision leaves without a counterpart: two experts tie
    # there, and the engine's own clean forward took the other one.
    elsewhere: int = 0
    usual: float | None = (
        None  # the tolerance that was passed, where `tolerance` is measured on these texts
    )

    @property
    def agrees(self) -> bool:
        """Whether at least one row was recomputed and none differs by more than rounding.

        False as well where all sampled effects are below the tolerance: such a sample shows nothing.
        """
        # Comparisons with NaN are false, so an effect that is NaN never agrees.
        return (
            self.n > 0
            and not self.blind
            and all(
                difference <= self.tolerance
                for difference in (self.max_abs_delta_nll, self.max_abs_kl)
            )
        )

    @property
    def explained(self) -> str:
        """What explains a difference within the tolerance."""
        if self.usual is None:
            return f"{self.dtype} rounding explains"
        return (
            "measured rounding explains: four times what a second copy of these texts in the batch moves a loss, at "
            f"most ten times the usual {self.usual:.0e}"
        )

    @property
    def blind(self) -> bool:
        """Whether every sampled effect is smaller than what rounding explains."""
        both = self.rows[["delta_nll", "engine_delta_nll"]].abs() if self.n else self.rows
        return self.n > 0 and not bool((both.to_numpy(float) > self.tolerance).any())

    def __repr__(self) -> str:
        if self.skipped is not None:
            return f"Not verified with {self.engine}: {self.skipped}"
        if self.blind:
            return (
                f"Not verified with {self.engine}: all {self.n} sampled effects are below {self.tolerance:.0e} nats, "
                f"what {self.dtype} rounding explains, so agreement would show nothing. "
                + ("Sample more rows." if self.dtype == "float32" else "Load the model in float32.")
            )
        allowed = f"{self.tolerance:.0e}" if self.usual is None else f"{self.tolerance:.1e}"
        verdict = (
            f"within {allowed}, what {self.explained}"
            if self.agrees
            else f"MORE than the {allowed} that {self.explained}"
        )
        return (
            f"{self.n} effects recomputed by one full forward each with {self.engine}: largest "
            f"difference {self.max_abs_delta_nll:.1e} nats in delta NLL and {self.max_abs_kl:.1e} "
            f"in KL ({verdict}); {self.flips_differ} of {self.n} flips differ."
            + (
                f" {self.elsewhere} more could not be compared: two experts tie there in {self.dtype}, and the "
                "engine's own forward took the other one."
                if self.elsewhere
                else ""
            )
        )

    def _repr_html_(self) -> str:
        table = self.rows.to_html(index=False, escape=True, float_format=lambda x: f"{x:.6g}")
        return f"<p>{html.escape(repr(self))}</p>" + (table if self.n else "")
