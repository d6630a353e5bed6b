"""Statistics of an audit: effect sizes, tests, corrections, intervals, equivalence, power.

Arrays and frames only. Documents, not tokens, are the sampling unit throughout.
"""

from __future__ import annotations

from .association import association as association
from .contrast import contrast as contrast
from .defects import defective_metrics as defective_metrics
from .effect_sizes import effect_size as effect_size
from .equivalence import VERDICTS as VERDICTS
from .equivalence import tost as tost
from .families import Family as Family
from .families import adjust as adjust
from .maxt import max_t as max_t
from .maxt import sign_flip_p as sign_flip_p
from .pooled import pooled as pooled
from .protocol import Defects as Defects
from .protocol import Protocol as Protocol
from .protocol import get_protocol as get_protocol
from .ranking import expert_harm as expert_harm
from .regression import regression as regression
from .spec import Spec as Spec
from .spec import freeze as freeze
from .spec import mark as mark

__all__ = [
    "Defects",
    "Family",
    "Protocol",
    "Spec",
    "VERDICTS",
    "adjust",
    "association",
    "contrast",
    "defective_metrics",
    "effect_size",
    "expert_harm",
    "freeze",
    "get_protocol",
    "mark",
    "max_t",
    "pooled",
    "regression",
    "sign_flip_p",
    "tost",
]
