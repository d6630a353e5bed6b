"""The calibration audit: clean and edited models, in domain and under shift."""
