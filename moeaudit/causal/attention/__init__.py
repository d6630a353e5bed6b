"""What a counterfactual row attends to: the clean past and itself."""
