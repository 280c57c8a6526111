"""Attacks in Markdown: what each tier came to, every attack, and the answers that came back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.markdown.parts import bullet_list, escape, table
from ckdiff.report.words import attack as words
from ckdiff.untrusted import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.report import Report


def parts(report: Report) -> Iterator[str]:
    """Everything, a paragraph, list or table each."""
    yield "## ckdiff attack"
    found = report.attack
    if found is None:
        yield f"**{words.NOTHING_ATTACKED}**"
        return
    yield f"**{escape(words.headline(found, report.verdict))}**"
    yield bullet_list(f"{name}: {shorten(text, 200)}" for name, text in words.facts_of(found))
    if found.tiers:
        yield "### Tiers"
        yield table(words.TIER_HEADS, map(words.tier_cells, found.tiers), left=2)
        yield escape(" ".join(words.TIER_LEGEND))
    if rows := words.measured_rows(found):
        yield "### Attacks"
        yield table(words.ROW_HEADS, map(words.row_cells, rows), left=3)
        yield escape(" ".join(words.LEGEND))
    for title, note, answers in words.returned_tables(found):
        yield f"### {title}"
        cells = ([shorten(text, 200) for text in words.returned_cells(found, one)] for one in answers)
        yield table(words.RETURNED_HEADS, cells, left=5)
        if note:
            yield escape(note)
    if found.codes:
        yield "### Weights alone"
        yield table(words.CODE_HEADS, words.code_cells(found.codes), left=2)
    if notes := words.every_note(found):
        yield "### Notes"
        yield bullet_list(notes)
