"""How a counterfactual is computed: the wavefront, and full forwards where rows cannot follow."""
