"""Depth in Markdown: one line, layer by layer, and every answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.markdown.parts import bullet_list, escape, table
from ckdiff.report.words import depth as words
from ckdiff.untrusted import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.report import Report


def parts(report: Report) -> Iterator[str]:
    """Everything, a paragraph, list or table each."""
    yield "## ckdiff depth"
    found = report.depth
    if found is None:
        yield f"**{words.NO_DEPTH}**"
        return
    yield f"**{escape(words.headline(found))}**"
    yield bullet_list(f"{name}: {shorten(text, 200)}" for name, text in words.facts_of(found))
    yield "### By layer"
    yield table(words.LAYER_HEADS, words.layer_cells(found), left=1)
    yield escape(" ".join(words.LEGEND))
    if found.questions:
        yield "### Answers, carried most first"
        cells = ([shorten(text, 200) for text in words.question_cells(one)] for one in words.carried(found))
        yield table(words.QUESTION_HEADS, cells, left=2)
    if notes := words.every_note(found):
        yield "### Notes"
        yield bullet_list(notes)
