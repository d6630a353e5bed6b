"""Calibration under shift: label shift, worst mixes, conformal sets."""
