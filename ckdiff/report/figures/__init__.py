"""A report as figures for a paper."""
