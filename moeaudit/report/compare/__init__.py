"""Runs side by side: what differs between their questions, and between their effects."""
