"""Figures of the size of interest: what hangs on it, and what could be found of it."""
