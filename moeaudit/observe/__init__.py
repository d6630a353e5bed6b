"""The clean pass: what the model predicts, where it routes, and what that says of its experts."""

from .capture import capture as capture
from .capture import capture_documents as capture_documents
from .coactivation import coactivation as coactivation
from .domains import domain_information as domain_information
from .load import bank_load as bank_load
from .load import domain_separation as domain_separation
from .load import expert_capacity as expert_capacity
from .load import load_balance as load_balance
from .load import router_logits as router_logits
from .load import router_losses as router_losses
from .load import router_z_loss as router_z_loss
from .load import site_agreement as site_agreement
from .load import switch_loss as switch_loss
from .load import working_set as working_set
from .metrics import METRICS as METRICS
from .metrics import expert_metrics as expert_metrics
from .modularity import modularity_scores as modularity_scores
from .modularity import router_mean as router_mean
from .modularity import router_vectors as router_vectors
from .modularity import token_clusters as token_clusters
from .saturation import router_saturation as router_saturation
from .trace import Facts as Facts
from .trace import Trace as Trace
from .vocabulary import favourite_tokens as favourite_tokens
from .vocabulary import vocabulary_specialisation as vocabulary_specialisation

__all__ = [
    "METRICS",
    "Facts",
    "Trace",
    "bank_load",
    "capture",
    "capture_documents",
    "coactivation",
    "domain_information",
    "domain_separation",
    "expert_capacity",
    "expert_metrics",
    "favourite_tokens",
    "load_balance",
    "modularity_scores",
    "router_logits",
    "router_mean",
    "router_losses",
    "router_saturation",
    "router_vectors",
    "router_z_loss",
    "site_agreement",
    "switch_loss",
    "token_clusters",
    "vocabulary_specialisation",
    "working_set",
]
