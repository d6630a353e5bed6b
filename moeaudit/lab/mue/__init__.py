"""Complete-muE: widths, experts and active experts changed without moving the best learning rate; and its audit."""

from .audit import Parameterisation as Parameterisation
from .audit import parameterisation as parameterisation
from .coordinates import Coordinates as Coordinates
from .coordinates import coordinate_check as coordinate_check
from .mechanism import CompleteMuE as CompleteMuE
from .multipliers import Multipliers as Multipliers
from .multipliers import multipliers as multipliers
from .sweep import RateSweep as RateSweep
from .sweep import rate_sweep as rate_sweep
