"""Sets of experts removed together: interactions, redundancy, Shapley values."""
