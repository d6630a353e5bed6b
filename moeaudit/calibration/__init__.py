"""Calibration: scores, recalibration, shift. Arrays in, frames out; no model is touched here.

Confidence is the probability a model gave its own answer, correct whether the answer was right.
Documents, not predictions, are the sampling unit throughout.
"""

from __future__ import annotations

from .predictions import Predictions as Predictions

__all__ = [
    "Predictions",
]
