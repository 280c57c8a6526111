"""Stored weights: files to tensors, tensors to components, two checkpoints to numbers."""
