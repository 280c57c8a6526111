"""What brings it back: one file an attack, one table of them."""
