"""One temperature for all logits: applying it, fitting it, fitting it from stored losses on a grid."""
