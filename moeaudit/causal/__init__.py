"""The counterfactuals: interventions, wavefront replay, outcomes, verification."""

from .census import ablate as ablate
from .coalition_summaries import interactions as interactions
from .coalition_summaries import redundancy as redundancy
from .effects import Effects as Effects
from .effects import EffectsFolder as EffectsFolder
from .first_order import screen as screen
from .further import LogitContrast as LogitContrast
from .interventions import Edits as Edits
from .interventions import Intervention as Intervention
from .interventions import Routing as Routing
from .interventions import Zero as Zero
from .mediation import decompose as decompose
from .operators import Coalitions as Coalitions
from .operators import Custom as Custom
from .operators import ExpertOutputs as ExpertOutputs
from .operators import Experts as Experts
from .operators import MeanOutput as MeanOutput
from .operators import Permutations as Permutations
from .operators import Renormalize as Renormalize
from .operators import Reroute as Reroute
from .operators import Resample as Resample
from .operators import Sequence as Sequence
from .operators import SharedExpert as SharedExpert
from .operators import SharedGate as SharedGate
from .operators import Skip as Skip
from .operators import Swap as Swap
from .operators import expert_outputs as expert_outputs
from .pruning import PruneCurve as PruneCurve
from .pruning import export_pruned as export_pruned
from .pruning import prune_curve as prune_curve
from .replay import plan_for as plan_for
from .replay import replay_for as replay_for
from .router_rule import answer_without as answer_without
from .router_rule import without_experts as without_experts
from .screened import Screened as Screened
from .shapley_values import shapley as shapley
from .verify import Verification as Verification
from .verify import verify as verify

__all__ = [
    "Coalitions",
    "Custom",
    "Edits",
    "Effects",
    "EffectsFolder",
    "ExpertOutputs",
    "Experts",
    "Intervention",
    "LogitContrast",
    "MeanOutput",
    "PruneCurve",
    "Permutations",
    "Renormalize",
    "Reroute",
    "Resample",
    "Routing",
    "Sequence",
    "SharedExpert",
    "SharedGate",
    "Screened",
    "Skip",
    "Swap",
    "Verification",
    "Zero",
    "ablate",
    "decompose",
    "answer_without",
    "expert_outputs",
    "interactions",
    "export_pruned",
    "plan_for",
    "prune_curve",
    "replay_for",
    "screen",
    "redundancy",
    "shapley",
    "verify",
    "without_experts",
]
