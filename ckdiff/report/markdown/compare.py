"""A comparison in Markdown: coverage, components, tensors that moved most, settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.markdown.parts import bullet_list, escape, table
from ckdiff.report.words import compare as words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.comparison import Comparison
    from ckdiff.report.schema.report import Report

TOP_TENSORS = 20

LISTED_CHANGES = 50

DRIFT_HEADS = ("1-cos", "relative L2", "changed", "max abs diff")

COMPONENT_HEADS = (
    *("component", "tensors", "parameters", "1-cos", "relative L2", "largest 1-cos"),
    *("changed", "max abs diff"),
)


def parts(report: Report) -> Iterator[str]:
    """Everything, a paragraph, list or table each."""
    found = report.compare
    yield "## ckdiff compare"
    if found is None or not found.tensors:
        yield f"**{words.NOTHING}**"
    if found is not None:
        yield from _sections(found)


def _sections(found: Comparison) -> Iterator[str]:
    yield "### Coverage"
    yield bullet_list(words.coverage_lines(found))
    if same := words.sameness_line(found):
        yield escape(same)
    elif found.tensors:
        yield "### Components"
        rows = ((f"{row.name} (tied)" if row.tied else row.name, *row.cells) for row in words.component_rows(found))
        yield table(COMPONENT_HEADS, rows, left=1)
    if tensors := words.top_tensors(found, TOP_TENSORS):
        yield "### Tensors that moved most"
        moved = ((row.name, row.component, *words.drift_cells(row.drift)) for row in tensors)
        yield table(("tensor", "component", *DRIFT_HEADS), moved, left=2)
    if changes := found.config_changes:
        yield "### Settings"
        values = ((row, [words.setting_text(value, 80) for value in (row.base, row.unlearned)]) for row in changes)
        shown = [(row.file, row.key, *texts) for row, texts in values]
        yield table(("file", "key", "base", "unlearned"), shown[:LISTED_CHANGES], left=4)
        if len(changes) > LISTED_CHANGES:
            yield f"… and {len(changes) - LISTED_CHANGES} more"
