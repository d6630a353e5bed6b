"""Operators: what "take this expert away" may mean."""

from .base import from_dict as from_dict
from .custom import Custom as Custom
from .everywhere import Everywhere as Everywhere
from .outputs import ExpertOutputs as ExpertOutputs
from .outputs import MeanOutput as MeanOutput
from .outputs import Resample as Resample
from .outputs import expert_outputs as expert_outputs
from .reroute import Reroute as Reroute
from .routing import Edits as Edits
from .routing import Operator as Operator
from .routing import Routing as Routing
from .scale import Scale as Scale
from .several.bank import Bank as Bank
from .several.coalitions import Coalitions as Coalitions
from .several.coalitions import Permutations as Permutations
from .shared import SharedExpert as SharedExpert
from .shared import SharedGate as SharedGate
from .weights import Renormalize as Renormalize
from .weights import Skip as Skip
from .weights import Swap as Swap
from .weights import Zero as Zero
from .whole import DocumentPool as DocumentPool
from .whole import Without as Without

__all__ = [
    "Bank",
    "Coalitions",
    "Custom",
    "DocumentPool",
    "Everywhere",
    "Edits",
    "ExpertOutputs",
    "MeanOutput",
    "Operator",
    "Permutations",
    "Renormalize",
    "Reroute",
    "Resample",
    "Routing",
    "Scale",
    "SharedExpert",
    "SharedGate",
    "Skip",
    "Swap",
    "Without",
    "Zero",
    "from_dict",
    "expert_outputs",
]
