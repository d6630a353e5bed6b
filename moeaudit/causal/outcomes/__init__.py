"""What is measured on a counterfactual, compared with the clean prediction."""
