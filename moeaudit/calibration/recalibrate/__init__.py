"""Recalibration: temperatures, isotonic maps and vectors, fitted on one part and judged on another."""
