"""From kept experts to a checkpoint that transformers reads."""

from .checkpoint import export_pruned as export_pruned

__all__ = ["export_pruned"]
