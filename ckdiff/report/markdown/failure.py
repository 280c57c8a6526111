"""The summary of a command that came to no result; little is imported, as an import may have been interrupted."""

from __future__ import annotations

from ckdiff.report.markdown.parts import escape


def failure_markdown(command: str, message: str, kind: str) -> str:
    """The summary of a command that came to no result."""
    return f"# ckdiff {escape(command)}: {escape(kind)}\n\nThere is no result. {escape(message)}\n"
