"""Scores, intervals and the table of modes: NumPy only."""
