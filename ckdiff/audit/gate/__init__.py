"""A policy's checks against a report, and the gate that they make."""
