"""The fewest neurons that carry a window's effect."""
