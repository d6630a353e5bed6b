"""The router contract: what must hold before an expert's removal means anything, and the pass that shows it."""

from .call import ExpertsCall as ExpertsCall
from .call import Probe as Probe
from .call import check_call as check_call
from .call import declared_moe_layers as declared_moe_layers
from .call import slot_contributions as slot_contributions
from .call import unexplained as unexplained
