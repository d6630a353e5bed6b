"""Training of small models: text in order, kernels, optimisers, balance losses, the protocol of mechanisms."""
