"""The sentences and the formatted numbers that every format shares."""
