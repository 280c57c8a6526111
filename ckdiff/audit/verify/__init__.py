"""A report computed again from what it holds, and from the files that it names."""
