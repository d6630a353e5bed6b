"""Training against the worst case: every loss weighed by its own size (arXiv 2606.20544)."""

from .loss import tilted as tilted
from .mechanism import Tilted as Tilted

__all__ = ["Tilted", "tilted"]
