"""Tables of calibration that say what they found: the whole in a sentence, the columns that matter below."""

from __future__ import annotations

from typing import Any

import pandas as pd

from moeaudit.frames.said import Said


class Scores(Said):
    """What `calibration_scores` returns: a DataFrame, shown in short."""

    _needs = ("stratum", "whole", "score", "value", "low", "high")
    _matters = (*("stratum", "score", "value", "low", "high"), *("p_documents", "n", "reason"))

    def _sentence(self) -> str | None:
        plain: Any = pd.DataFrame(self)
        whole = plain[plain["whole"].fillna(False).astype(bool)].set_index("score")
        if not len(whole) or not whole.index.is_unique:
            return None
        strata = plain.loc[~plain["whole"].fillna(False).astype(bool), "stratum"].nunique()
        of = f" and {strata} strata" if strata else ""
        said = [
            f"{name} {_limits(whole.loc[name])}"
            for name in ("gap", "ece_mass_l1")
            if name in whole.index
        ]
        return f"Calibration over all predictions{of}: {', '.join(said) or 'see the scores'}."


class Reliability(Said):
    """What `reliability` returns: a DataFrame, shown in short."""

    _needs = ("stratum", "whole", "bin", "accuracy", "band_low", "band_high")
    _matters = (
        *("stratum", "bin", "share", "confidence", "accuracy"),
        *("gap", "gap_low", "gap_high", "band_low", "band_high", "n", "reason"),
    )

    def _sentence(self) -> str | None:
        plain: Any = pd.DataFrame(self)
        whole = plain[plain["whole"].astype(bool)]
        told: Any = whole.dropna(subset=["band_low", "band_high"])
        if not len(told):
            return None
        low, high = (told[name].astype(float) for name in ("band_low", "band_high"))
        outside = int(((told["accuracy"] < low) | (told["accuracy"] > high)).sum())
        strata = plain.loc[~plain["whole"].astype(bool), "stratum"].nunique()
        of = f"; {strata} strata besides" if strata else ""
        return (
            f"Reliability over all predictions in {len(whole)} bins: {outside} of {len(told)} lie outside the band of "
            f"calibrated confidences{of}."
        )


def _limits(row: Any) -> str:
    if pd.isna(row["value"]):
        return "not estimable"
    said = f"{float(row['value']):+.4f}"
    if pd.isna(row["low"]) or pd.isna(row["high"]):
        return f"{said} (no limits)"
    return f"{said} ({float(row['low']):+.4f} to {float(row['high']):+.4f})"
