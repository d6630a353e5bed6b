"""The counterfactuals: operators, wavefront replay, outcomes, verification."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from moeaudit.models.router import answer_without as answer_without
from moeaudit.models.router import without_experts as without_experts

from .census import ablate as ablate
from .check.handover import apply_in_trace as apply_in_trace
from .check.handover import as_transformer_lens_hooks as as_transformer_lens_hooks
from .check.mates import BatchMates as BatchMates
from .check.mates import batch_mates as batch_mates
from .check.verify import Verification as Verification
from .check.verify import verify as verify
from .effects import Effects as Effects
from .folder import EffectsFolder as EffectsFolder
from .operators import Bank as Bank
from .operators import Coalitions as Coalitions
from .operators import Custom as Custom
from .operators import DocumentPool as DocumentPool
from .operators import Everywhere as Everywhere
from .operators import ExpertOutputs as ExpertOutputs
from .operators import MeanOutput as MeanOutput
from .operators import Permutations as Permutations
from .operators import Renormalize as Renormalize
from .operators import Reroute as Reroute
from .operators import Resample as Resample
from .operators import Scale as Scale
from .operators import SharedExpert as SharedExpert
from .operators import SharedGate as SharedGate
from .operators import Skip as Skip
from .operators import Swap as Swap
from .operators import Without as Without
from .operators import expert_outputs as expert_outputs
from .operators import from_dict as from_dict
from .operators.routing import Edits as Edits
from .operators.routing import Operator as Operator
from .operators.routing import Routing as Routing
from .operators.weights import Zero as Zero
from .outcomes.named import LogitContrast as LogitContrast
from .routing.mediation import decompose as decompose
from .routing.precision import RouterPrecision as RouterPrecision
from .routing.precision import router_precision as router_precision
from .screen.gradients import screen as screen
from .screen.screened import Screened as Screened
from .walk.engine import plan_for as plan_for
from .walk.engine import replay_for as replay_for

if TYPE_CHECKING:
    from moeaudit.stats.sets.interactions import interactions as interactions
    from moeaudit.stats.sets.interactions import redundancy as redundancy
    from moeaudit.stats.sets.shapley import shapley as shapley

# Made when they are asked for: they bring the statistics, which a look at a model does not need.
_OF_SETS = {"interactions": "interactions", "redundancy": "interactions", "shapley": "shapley"}


def __getattr__(name: str) -> Any:
    if name not in _OF_SETS:
        raise AttributeError(f"module 'moeaudit.causal' has no attribute {name!r}")
    return getattr(importlib.import_module(f"moeaudit.stats.sets.{_OF_SETS[name]}"), name)


__all__ = [
    "Bank",
    "Coalitions",
    "Custom",
    "DocumentPool",
    "Edits",
    "Effects",
    "EffectsFolder",
    "ExpertOutputs",
    "Without",
    "Operator",
    "LogitContrast",
    "MeanOutput",
    "Permutations",
    "Renormalize",
    "Reroute",
    "Resample",
    "Routing",
    "Everywhere",
    "Scale",
    "SharedExpert",
    "SharedGate",
    "Screened",
    "Skip",
    "Swap",
    "Verification",
    "Zero",
    "ablate",
    "apply_in_trace",
    "as_transformer_lens_hooks",
    "decompose",
    "from_dict",
    "answer_without",
    "expert_outputs",
    "interactions",
    "plan_for",
    "replay_for",
    "screen",
    "redundancy",
    "shapley",
    "verify",
    "without_experts",
]
