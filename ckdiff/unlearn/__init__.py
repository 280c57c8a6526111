"""How pairs are made: the texts that a model is to unlearn, and the training that does it."""
