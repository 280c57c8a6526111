"""What transformers makes of the files around the weights: one form for every spelling of the same setting."""
