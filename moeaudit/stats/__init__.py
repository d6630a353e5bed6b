"""Statistics of an audit: effect sizes, tests, corrections, intervals, equivalence, power.

Arrays and frames only. Documents, not tokens, are the sampling unit throughout.
"""

from __future__ import annotations

from .contrast import contrast as contrast
from .equivalence import VERDICTS as VERDICTS
from .equivalence import tost as tost
from .families import Family as Family
from .families import adjust as adjust
from .harm import expert_harm as expert_harm
from .maxt import max_t as max_t
from .maxt import sign_flip_p as sign_flip_p
from .protocol import Defects as Defects
from .protocol import Protocol as Protocol
from .protocol import get_protocol as get_protocol

__all__ = [
    "VERDICTS",
    "Defects",
    "Family",
    "Protocol",
    "adjust",
    "contrast",
    "expert_harm",
    "get_protocol",
    "max_t",
    "sign_flip_p",
    "tost",
]
