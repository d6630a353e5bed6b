"""Operators: what "take this expert away" may mean. `Zero` is in `interventions`, as the plainest."""

from .coalitions import Coalitions as Coalitions
from .coalitions import Permutations as Permutations
from .custom import Custom as Custom
from .everywhere import Sequence as Sequence
from .outputs import ExpertOutputs as ExpertOutputs
from .outputs import MeanOutput as MeanOutput
from .outputs import Resample as Resample
from .outputs import expert_outputs as expert_outputs
from .reroute import Reroute as Reroute
from .shared import SharedExpert as SharedExpert
from .shared import SharedGate as SharedGate
from .weights import Renormalize as Renormalize
from .weights import Skip as Skip
from .weights import Swap as Swap
from .without import Experts as Experts

__all__ = [
    "Coalitions",
    "Custom",
    "ExpertOutputs",
    "Experts",
    "MeanOutput",
    "Permutations",
    "Renormalize",
    "Reroute",
    "Resample",
    "Sequence",
    "SharedExpert",
    "SharedGate",
    "Skip",
    "Swap",
    "expert_outputs",
]
