"""A report as an HDF5 file, and back."""
