"""Experts besides a plain routed list: shared by every token, without a weight, or a document's own pool."""
