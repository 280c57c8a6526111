"""Attacks, which try to bring answers back: one file each, one table of them."""
