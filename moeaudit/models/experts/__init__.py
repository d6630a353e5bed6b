"""Experts: many rows at once on a CPU; shared by every token, without a weight, or a document's own pool."""
