"""Figures of a quantity layer by layer."""
