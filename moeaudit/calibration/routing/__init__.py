"""Calibration by routing group: groups, cells, tests, and their replication."""
