"""Differences between two tables of effects: their size and limits, what may be claimed, and which experts are
alike."""
