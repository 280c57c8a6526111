"""What is stored: files to tensors, tensors to components, two checkpoints to numbers."""
