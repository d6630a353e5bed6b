"""How evenly experts are used: balance by scope, separation of domains, capacity, the losses of training."""

from .balance import load_balance as load_balance
from .banks import bank_load as bank_load
from .banks import site_agreement as site_agreement
from .capacity import expert_capacity as expert_capacity
from .logits import router_logits as router_logits
from .losses import router_losses as router_losses
from .losses import router_z_loss as router_z_loss
from .losses import switch_loss as switch_loss
from .separation import domain_separation as domain_separation
from .working_set import working_set as working_set
