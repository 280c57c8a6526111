"""A report as tables of a terminal."""
