"""What first order would say: gradients, and how far they agree with exact removals."""
