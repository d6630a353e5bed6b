"""Statistics of an audit: effect sizes, tests, corrections, intervals, equivalence, power.

Arrays and frames only. Documents, not tokens, are the sampling unit throughout.
"""

from __future__ import annotations

from .contrast.contrast import contrast as contrast
from .contrast.defects import defective_metrics as defective_metrics
from .contrast.protocol import Defects as Defects
from .contrast.protocol import Protocol as Protocol
from .contrast.protocol import get_protocol as get_protocol
from .contrast.spec import Spec as Spec
from .contrast.spec import freeze as freeze
from .domains.across_domains import across_domains as across_domains
from .domains.by_domain import by_domain as by_domain
from .domains.heterogeneity import heterogeneity as heterogeneity
from .families.families import Family as Family
from .families.families import adjust as adjust
from .families.maxt import max_t as max_t
from .families.maxt import sign_flip_p as sign_flip_p
from .families.pooled import pooled as pooled
from .families.regression import regression as regression
from .ranking.association import association as association
from .ranking.by_expert import harm_by_expert as harm_by_expert
from .ranking.ranking import expert_harm as expert_harm
from .record.made import together as together
from .record.marking import mark as mark
from .sensitivity import verdicts_at as verdicts_at
from .sensitivity import verdicts_over as verdicts_over
from .sets.banks import additivity_by_bank as additivity_by_bank
from .sets.banks import bank_additivity as bank_additivity
from .sets.mass import equal_mass as equal_mass
from .sizes.bounds import Bound as Bound
from .sizes.effect_sizes import effect_size as effect_size
from .sizes.equivalence import VERDICTS as VERDICTS
from .sizes.equivalence import tost as tost

__all__ = [
    "Bound",
    "Defects",
    "Family",
    "Protocol",
    "Spec",
    "VERDICTS",
    "across_domains",
    "additivity_by_bank",
    "adjust",
    "association",
    "bank_additivity",
    "by_domain",
    "contrast",
    "defective_metrics",
    "effect_size",
    "equal_mass",
    "expert_harm",
    "freeze",
    "get_protocol",
    "harm_by_expert",
    "mark",
    "max_t",
    "pooled",
    "regression",
    "sign_flip_p",
    "together",
    "tost",
    "verdicts_at",
    "verdicts_over",
]
