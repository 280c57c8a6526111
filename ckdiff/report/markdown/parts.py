"""Pieces of Markdown: tables, lists, and text that stays text."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BREAK = "&#8203;"
"""A space of no width."""


def bullet_list(lines: Iterable[str]) -> str:
    """A list with one item a line."""
    return "\n".join(f"- {escape(line)}" for line in lines)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    """A Markdown table whose first `left` columns are text and the others numbers."""
    rule = [":--" if column < left else "--:" for column in range(len(heads))]
    lines = [list(heads), rule, *([escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: str) -> str:
    """Text that neither Markdown nor HTML reads as markup, link or mention.

    Some sites look for addresses, mentions and issue numbers again in the finished page, where an escape is no longer
    to be seen: there an invisible space breaks them.
    """
    safe = html.escape(printable(text), quote=False)
    safe = re.sub(r"([\\`*_\[\]|~$!])", r"\\\1", safe)
    safe = re.sub(r"#(?=\d)", rf"\\#{BREAK}", re.sub(r"#(?!\d)", r"\\#", safe))
    safe = re.sub(r"www\.", lambda found: f"{found[0][:3]}{BREAK}.", safe, flags=re.IGNORECASE)
    return safe.replace("@", f"&#64;{BREAK}").replace("://", f"&#58;{BREAK}//")
