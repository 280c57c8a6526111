"""A report as JSON, CSV, Markdown, JUnit and an in-toto statement."""
