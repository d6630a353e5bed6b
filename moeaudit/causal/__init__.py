"""The counterfactuals: interventions, wavefront replay, outcomes, verification."""

from .ablate import ablate as ablate
from .ablate import tokenize_for as tokenize_for
from .effects import Effects as Effects
from .effects import EffectsFolder as EffectsFolder
from .interventions import Edits as Edits
from .interventions import Intervention as Intervention
from .interventions import Routing as Routing
from .interventions import Zero as Zero
from .replay import plan_for as plan_for
from .replay import replay_for as replay_for
from .verify import Verification as Verification
from .verify import verify as verify

__all__ = [
    "Edits",
    "Effects",
    "EffectsFolder",
    "Intervention",
    "Routing",
    "Verification",
    "Zero",
    "ablate",
    "plan_for",
    "replay_for",
    "tokenize_for",
    "verify",
]
