"""Many tests at once: families, max-T, pooled tests and regressions."""
