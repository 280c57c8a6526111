"""Weights of 8 bits and fewer, read as the values that they stand for; what cannot be read so is refused by name."""
