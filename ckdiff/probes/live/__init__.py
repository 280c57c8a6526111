"""A checkpoint as a running model, and the places in it where states are read and put."""
