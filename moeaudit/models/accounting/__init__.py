"""What a model takes: parameters, active parameters, bytes, cache and operations, from its configuration alone."""

from .account import Account as Account
from .account import accounting as accounting

__all__ = ["Account", "accounting"]
