"""Effect sizes, their limits, power and equivalence."""
