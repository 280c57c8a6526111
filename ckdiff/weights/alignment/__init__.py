"""Neurons, heads and experts of one checkpoint put into the order and the scale of another's."""
