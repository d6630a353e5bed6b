"""Calibration: scores, recalibration, shift. Arrays in, frames out; no model is touched here.

Confidence is the probability a model gave its own answer, correct whether the answer was right.
Documents, not predictions, are the sampling unit throughout.
"""

from __future__ import annotations

from .predictions.predictions import Predictions as Predictions
from .recalibrate.isotonic import fit_isotonic as fit_isotonic
from .recalibrate.methods import Split as Split
from .recalibrate.recalibration import Recalibration as Recalibration
from .recalibrate.recalibration import recalibrate as recalibrate
from .recalibrate.temperature.grid import TemperatureGrid as TemperatureGrid
from .recalibrate.temperature.temperature import fit_temperature as fit_temperature
from .recalibrate.temperature.temperature import (
    fit_temperature_streaming as fit_temperature_streaming,
)
from .recalibrate.vector import fit_vector as fit_vector
from .routing.groups import QuantileGroups as QuantileGroups
from .routing.groups import RouterClusters as RouterClusters
from .routing.groups import expert_disagreement as expert_disagreement
from .routing.groups import gate_entropy as gate_entropy
from .routing.routing import routing_calibration as routing_calibration
from .scores.points.binned import ece as ece
from .scores.points.debiased import debiased_squared as debiased_squared
from .scores.points.debiased import document_squared as document_squared
from .scores.points.gap import signed_gap as signed_gap
from .scores.points.kuiper import kuiper as kuiper
from .scores.points.multicalibration import multicalibration_error as multicalibration_error
from .scores.points.smooth import smooth_ece as smooth_ece
from .scores.reliability import reliability as reliability
from .scores.scores import calibration_scores as calibration_scores
from .shift.conformal import ConformalSets as ConformalSets
from .shift.conformal import conformal_sets as conformal_sets
from .shift.label_shift import LabelShift as LabelShift
from .shift.label_shift import bbse as bbse
from .shift.label_shift import em_label_shift as em_label_shift
from .shift.shift import CovariateShift as CovariateShift
from .shift.shift import covariate_shift as covariate_shift
from .shift.worst_case import worst_case as worst_case
from .shift.worst_case_tilt import worst_mean as worst_mean

__all__ = [
    "ConformalSets",
    "CovariateShift",
    "LabelShift",
    "Predictions",
    "QuantileGroups",
    "Recalibration",
    "RouterClusters",
    "Split",
    "TemperatureGrid",
    "bbse",
    "calibration_scores",
    "conformal_sets",
    "covariate_shift",
    "debiased_squared",
    "document_squared",
    "ece",
    "em_label_shift",
    "expert_disagreement",
    "fit_isotonic",
    "fit_temperature",
    "fit_temperature_streaming",
    "fit_vector",
    "gate_entropy",
    "kuiper",
    "multicalibration_error",
    "recalibrate",
    "reliability",
    "routing_calibration",
    "signed_gap",
    "smooth_ece",
    "worst_case",
    "worst_mean",
]
