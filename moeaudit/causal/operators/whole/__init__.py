"""Edits of several layers at every token at once."""

from .base import WholeModel as WholeModel
from .pool import DocumentPool as DocumentPool
from .without import Without as Without

__all__ = ["DocumentPool", "WholeModel", "Without"]
