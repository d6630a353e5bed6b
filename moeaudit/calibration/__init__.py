"""Calibration: scores, recalibration, shift. Arrays in, frames out; no model is touched here.

Confidence is the probability a model gave its own answer, correct whether the answer was right.
Documents, not predictions, are the sampling unit throughout.
"""

from __future__ import annotations

from .binned import ece as ece
from .debiased import debiased_squared as debiased_squared
from .debiased import document_squared as document_squared
from .gap import signed_gap as signed_gap
from .kuiper import kuiper as kuiper
from .multicalibration import multicalibration_error as multicalibration_error
from .predictions import Predictions as Predictions
from .reliability import reliability as reliability
from .scores import calibration_scores as calibration_scores
from .smooth import smooth_ece as smooth_ece

__all__ = [
    "Predictions",
    "calibration_scores",
    "debiased_squared",
    "document_squared",
    "ece",
    "kuiper",
    "multicalibration_error",
    "reliability",
    "signed_gap",
    "smooth_ece",
]
