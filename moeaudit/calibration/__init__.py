"""Calibration: scores, recalibration, shift. Arrays in, frames out; no model is touched here.

Confidence is the probability a model gave its own answer, correct whether the answer was right.
Documents, not predictions, are the sampling unit throughout.
"""

from __future__ import annotations

from .binned import ece as ece
from .conformal import ConformalSets as ConformalSets
from .conformal import conformal_sets as conformal_sets
from .debiased import debiased_squared as debiased_squared
from .debiased import document_squared as document_squared
from .gap import signed_gap as signed_gap
from .isotonic import fit_isotonic as fit_isotonic
from .kuiper import kuiper as kuiper
from .label_shift import LabelShift as LabelShift
from .label_shift import bbse as bbse
from .label_shift import em_label_shift as em_label_shift
from .multicalibration import multicalibration_error as multicalibration_error
from .predictions import Predictions as Predictions
from .recalibration import Recalibration as Recalibration
from .recalibration import Split as Split
from .recalibration import recalibrate as recalibrate
from .recalibration_vector import fit_vector as fit_vector
from .reliability import reliability as reliability
from .routing import routing_calibration as routing_calibration
from .routing_groups import QuantileGroups as QuantileGroups
from .routing_groups import RouterClusters as RouterClusters
from .routing_groups import expert_disagreement as expert_disagreement
from .routing_groups import gate_entropy as gate_entropy
from .scores import calibration_scores as calibration_scores
from .shift import CovariateShift as CovariateShift
from .shift import covariate_shift as covariate_shift
from .smooth import smooth_ece as smooth_ece
from .temperature import fit_temperature as fit_temperature
from .temperature import fit_temperature_streaming as fit_temperature_streaming
from .temperature_grid import TemperatureGrid as TemperatureGrid
from .worst_case import worst_case as worst_case
from .worst_case_tilt import worst_mean as worst_mean

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
