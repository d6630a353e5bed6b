"""moeaudit: causal audits of Mixture-of-Experts language models.

The names below are the public interface. Each is imported from its room on first use, so
`import moeaudit` loads neither torch nor transformers.
"""

from __future__ import annotations

import importlib
import os
import warnings
from typing import TYPE_CHECKING, Any

# Read by OpenMP when torch is loaded: how long a thread spins while it waits. Spinning threads take the cores from
# those that they wait for as soon as anything else runs here (docs/performance.md). Say otherwise to keep it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")

if TYPE_CHECKING:
    from .calibration import Predictions as Predictions
    from .calibration import calibration_scores as calibration_scores
    from .calibration import reliability as reliability
    from .causal import Bank as Bank
    from .causal import Coalitions as Coalitions
    from .causal import Custom as Custom
    from .causal import DocumentPool as DocumentPool
    from .causal import Effects as Effects
    from .causal import Everywhere as Everywhere
    from .causal import LogitContrast as LogitContrast
    from .causal import MeanOutput as MeanOutput
    from .causal import Permutations as Permutations
    from .causal import Renormalize as Renormalize
    from .causal import Reroute as Reroute
    from .causal import Resample as Resample
    from .causal import Scale as Scale
    from .causal import SharedExpert as SharedExpert
    from .causal import SharedGate as SharedGate
    from .causal import Skip as Skip
    from .causal import Swap as Swap
    from .causal import Without as Without
    from .causal import Zero as Zero
    from .causal import ablate as ablate
    from .causal import batch_mates as batch_mates
    from .causal import decompose as decompose
    from .causal import expert_outputs as expert_outputs
    from .causal import interactions as interactions
    from .causal import redundancy as redundancy
    from .causal import router_precision as router_precision
    from .causal import screen as screen
    from .causal import shapley as shapley
    from .causal import verify as verify
    from .causal import without_experts as without_experts
    from .causal.folder import effects as effects
    from .front import Run as Run
    from .front import audit as audit
    from .front import calibration_audit as calibration_audit
    from .front import merge as merge
    from .front import plan as plan
    from .front import prune_curve as prune_curve
    from .models import Model as Model
    from .models import bundled_models as bundled_models
    from .models import load as load
    from .models.accounting import accounting as accounting
    from .observe import Trace as Trace
    from .observe import capture as capture
    from .observe import coactivation as coactivation
    from .observe import domain_information as domain_information
    from .observe import domain_separation as domain_separation
    from .observe import expert_capacity as expert_capacity
    from .observe import expert_metrics as expert_metrics
    from .observe import load_balance as load_balance
    from .observe import router_losses as router_losses
    from .observe import router_saturation as router_saturation
    from .observe import site_agreement as site_agreement
    from .observe import vocabulary_specialisation as vocabulary_specialisation
    from .observe import working_set as working_set
    from .pruning import export_pruned as export_pruned
    from .report import plot as plot
    from .report.cell import expert as expert
    from .report.cell import show_tokens as show_tokens
    from .report.compare.comparison import Comparison as Comparison
    from .report.compare.comparison import compare as compare
    from .runs.costs import cost as cost
    from .runs.parts.part import audit_part as audit_part
    from .runs.plans import Plan as Plan
    from .runs.plans import check_plan as check_plan
    from .runs.plans import documents_needed as documents_needed
    from .stats import across_domains as across_domains
    from .stats import bank_additivity as bank_additivity
    from .stats import by_domain as by_domain
    from .stats import contrast as contrast
    from .stats import expert_harm as expert_harm
    from .stats import harm_by_expert as harm_by_expert
    from .text import Corpus as Corpus
    from .text import Document as Document
    from .text import corpus as corpus
    from .text import documents as documents

from .errors import MoeAuditError as MoeAuditError
from .version import __version__ as __version__

# Libraries below import tqdm.auto, which then warns in every notebook without ipywidgets; none are needed here.
warnings.filterwarnings("ignore", message="IProgress not found")

_ROOM_OF = {
    "Predictions": "calibration",
    "calibration_scores": "calibration",
    "reliability": "calibration",
    "Trace": "observe",
    "capture": "observe",
    "expert_capacity": "observe",
    "expert_metrics": "observe",
    "coactivation": "observe",
    "domain_information": "observe",
    "domain_separation": "observe",
    "load_balance": "observe",
    "router_losses": "observe",
    "router_saturation": "observe",
    "site_agreement": "observe",
    "vocabulary_specialisation": "observe",
    "working_set": "observe",
    "Bank": "causal",
    "Effects": "causal",
    "Without": "causal",
    "Coalitions": "causal",
    "Custom": "causal",
    "DocumentPool": "causal",
    "LogitContrast": "causal",
    "MeanOutput": "causal",
    "Permutations": "causal",
    "Renormalize": "causal",
    "Reroute": "causal",
    "Resample": "causal",
    "Everywhere": "causal",
    "Scale": "causal",
    "SharedExpert": "causal",
    "SharedGate": "causal",
    "Skip": "causal",
    "Swap": "causal",
    "Zero": "causal",
    "ablate": "causal",
    "batch_mates": "causal",
    "decompose": "causal",
    "effects": "causal.folder",
    "expert_outputs": "causal",
    "without_experts": "causal",
    "export_pruned": "pruning",
    "prune_curve": "front",
    "router_precision": "causal",
    "screen": "causal",
    "interactions": "causal",
    "redundancy": "causal",
    "shapley": "causal",
    "verify": "causal",
    "accounting": "models.accounting",
    "Model": "models",
    "bundled_models": "models",
    "load": "models",
    "Comparison": "report.compare.comparison",
    "compare": "report.compare.comparison",
    "Run": "front",
    "audit": "front",
    "calibration_audit": "front",
    "merge": "front",
    "plan": "front",
    "cost": "runs.costs",
    "audit_part": "runs.parts.part",
    "Plan": "runs.plans",
    "check_plan": "runs.plans",
    "documents_needed": "runs.plans",
    "expert": "report.cell",
    "show_tokens": "report.cell",
    "across_domains": "stats",
    "bank_additivity": "stats",
    "by_domain": "stats",
    "contrast": "stats",
    "expert_harm": "stats",
    "harm_by_expert": "stats",
    "Corpus": "text",
    "Document": "text",
    "corpus": "text",
    "documents": "text",
}

__all__ = ["MoeAuditError", "__version__", "plot", *_ROOM_OF]


def __getattr__(name: str) -> Any:
    if name == "stats":  # a room of its own names: `moeaudit.stats.verdicts_over`
        return importlib.import_module(".stats", __name__)
    if name == "plot":  # figures: `moeaudit.plot.map(effects)`
        return importlib.import_module(".report.plot", __name__)
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module 'moeaudit' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{room}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
