"""Operators: what "take this expert away" may mean. `Zero` is in `interventions`, as the plainest."""

from .coalitions import Coalitions as Coalitions
from .outputs import ExpertOutputs as ExpertOutputs
from .outputs import MeanOutput as MeanOutput
from .outputs import Resample as Resample
from .outputs import expert_outputs as expert_outputs
from .weights import Renormalize as Renormalize
from .weights import Skip as Skip
from .weights import Swap as Swap

__all__ = [
    "Coalitions",
    "ExpertOutputs",
    "MeanOutput",
    "Renormalize",
    "Resample",
    "Skip",
    "Swap",
    "expert_outputs",
]
