"""The audited model, and the picture that it shows of itself."""

from .model import LENT_EXPERTS as LENT_EXPERTS
from .model import Model as Model

__all__ = ["LENT_EXPERTS", "Model"]
