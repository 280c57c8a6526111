"""The files around the weights as transformers takes them: one form for every spelling of the same setting."""
