"""The within-token contrast of metrics, its controls, protocol and table."""
