"""Pruning experts: criteria, what they cost beside random, and checkpoints without the experts."""

from .curve import prune_curve as prune_curve
from .export import export_pruned as export_pruned
from .result import PruneCurve as PruneCurve

__all__ = ["PruneCurve", "export_pruned", "prune_curve"]
