"""One report out of many jobs' reports."""
