"""A report for other programs: JSON, JUnit XML, and an in-toto statement."""
