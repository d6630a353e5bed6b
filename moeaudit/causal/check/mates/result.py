"""What the batch-mate test found, and how it says so."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from moeaudit.frames import Frame
from moeaudit.frames.shown import bullets, paragraph, table

COLUMNS = (
    *("experts", "layer", "verdict", "tokens", "moved", "weight", "output"),
    *("same_moved", "same_output", "wide_moved", "wide_output", "reason"),
)
INDEPENDENT, ROUNDING, DEPENDS, UNDECIDED = "independent", "rounding", "depends", "undecided"


@dataclass(frozen=True)
class BatchMates:
    """Whether a sample's routing and output depend on the samples beside it in the batch.

    `table` has one row for each experts implementation and each block on its own (`layer`), and one for the
    whole model (`layer` null): `tokens` compared with the sample alone, `moved` (tokens whose set of experts
    is another beside mates), `weight` and `output` (largest relative difference of a routing weight and of an
    output), `same_moved` and `same_output` (the same where the mates are copies of the sample: what the
    shape of the batch does to rounding, measured), `wide_moved` and `wide_output` (beside mates, in float64;
    null where it was not needed or, with a `reason`, not possible), and the `verdict`:

    - "independent": no more than copies of the sample itself do;
    - "rounding": more, but in float64 it is gone (it shrinks as rounding does), so the sample is independent;
    - "depends": another answer, in float64 as well;
    - "undecided": a difference that could not be looked at in float64, or a pass that could not be made.
    """

    name: str
    table: Frame = field(repr=False)
    samples: int
    tokens: int
    dtype: str
    notes: tuple[str, ...] = ()

    @property
    def independent(self) -> bool | None:
        """True: nothing depends on batch mates; False: something does; None: not decided."""
        verdicts = set(self.table["verdict"])
        if DEPENDS in verdicts:
            return False
        return None if UNDECIDED in verdicts else True

    @property
    def dependent(self) -> Frame:
        """The rows that depend on batch mates."""
        return self.table[self.table["verdict"] == DEPENDS]

    def __repr__(self) -> str:
        how = ", ".join(str(x) for x in dict.fromkeys(self.table["experts"]))
        blocks = self.table["layer"].nunique()
        what = f"{self.samples} samples of {self.tokens} tokens, each alone and beside the others, in {self.dtype}"
        looked = f"{what}; {how}; {blocks} block{'s' * (blocks != 1)} on their own"
        looked += " and the whole model" if self.table["layer"].isna().any() else ""
        if self.independent is False:
            worst = self.dependent.sort_values("output").iloc[-1]
            where = "whole model" if pd.isna(worst["layer"]) else f"layer {int(worst['layer'])}"
            moved = (
                f" {int(self.dependent['moved'].sum()):,} of {int(self.dependent['tokens'].sum()):,} selections change."
                if self.dependent["moved"].notna().any()
                else " Selections were not seen."
            )
            return (
                f"{self.name}: DEPENDS on batch mates ({looked}). {len(self.dependent)} of {len(self.table)} "
                f"comparisons show it, most the {where}: its output differs by {worst['output']:.1e} of the largest, "
                f"by {worst['same_output']:.1e} where the mates are copies of the sample.{moved} Read one text at a "
                "time; no counterfactual of this model can share a batch."
            )
        largest, same = self.table["output"].max(), self.table["same_output"].max()
        moved = self.table["moved"].sum() if self.table["moved"].notna().any() else None
        said = f"Outputs differ by at most {largest:.1e} of the largest, and by {same:.1e} beside copies of the sample"
        if moved is not None:
            said += f"; {int(moved):,} of {int(self.table['tokens'].sum()):,} selections change"
        said += "."
        if self.independent is None:
            row = self.table[self.table["verdict"] == UNDECIDED].iloc[0]
            return f"{self.name}: not decided ({looked}): {row['reason']}. {said}"
        gone = int((self.table["verdict"] == ROUNDING).sum())
        if gone:
            said += f" In {gone} comparisons that is more than copies do, and in float64 it is gone: rounding."
        return f"{self.name}: does not depend on batch mates ({looked}). {said}"

    def _repr_html_(self) -> str:
        return paragraph(repr(self)) + table(self.table, COLUMNS, most=40) + bullets(self.notes)
