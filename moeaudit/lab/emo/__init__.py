"""EMO: every document chooses from a pool of experts of its own, in training (arXiv 2605.06663).

The same mask on a model that is there already is `moeaudit.DocumentPool`.
"""

from .mechanism import Emo as Emo
from .mechanism import pool_sizes as pool_sizes
from .mechanism import pools as pools

__all__ = ["Emo", "pool_sizes", "pools"]
