"""Calibration scores with limits and nulls, by stratum."""
