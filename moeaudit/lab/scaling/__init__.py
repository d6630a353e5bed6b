"""The joint scaling law of mixtures of experts: the law, and its fit with intervals."""

from .fit import LawFit as LawFit
from .fit import fit_law as fit_law
from .law import COEFFICIENTS as COEFFICIENTS
from .law import PUBLISHED as PUBLISHED
from .law import Law as Law
from .law import effective_experts as effective_experts

__all__ = ["COEFFICIENTS", "PUBLISHED", "Law", "LawFit", "effective_experts", "fit_law"]
