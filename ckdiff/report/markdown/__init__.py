"""A report as Markdown: a summary to paste into an issue or a model card."""
