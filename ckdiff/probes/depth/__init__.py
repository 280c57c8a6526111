"""Depth beside a model that never knew: the runs, and the section that they make."""
