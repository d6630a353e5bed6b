"""Metrics against harm across experts, with the reliability that bounds them."""
