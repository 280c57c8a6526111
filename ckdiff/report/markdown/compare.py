"""A comparison in Markdown: coverage, components, tensors that moved most, settings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ckdiff.report.markdown.parts import escape, table
from ckdiff.report.words.numbers import (
    amount,
    component_peaks,
    coverage_lines,
    number,
    percent,
    sameness_line,
    top_tensors,
)
from ckdiff.untrusted import shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ckdiff.report.schema.comparison import Comparison, Drift
    from ckdiff.report.schema.report import Report

TOP_TENSORS = 20

LISTED_CHANGES = 50

NOTHING = "NOTHING WAS COMPARED"


def parts(report: Report) -> Iterator[str]:
    """Everything, a paragraph, list or table each."""
    found = report.compare
    yield "## ckdiff compare"
    if found is None or not found.tensors:
        yield f"**{NOTHING}**"
    if found is not None:
        yield from _sections(found)


def _sections(found: Comparison) -> Iterable[str]:
    yield "### Coverage"
    yield "\n".join(f"- {escape(line)}" for line in coverage_lines(found))
    if same := sameness_line(found):
        yield escape(same)
    elif found.tensors:
        yield "### Components"
        heads = (
            "component",
            "tensors",
            "parameters",
            "1-cos",
            "relative L2",
            "largest 1-cos",
            "changed",
            "max abs diff",
        )
        yield table(heads, _component_cells(found), left=1)
    if rows := top_tensors(found, TOP_TENSORS):
        yield "### Tensors that moved most"
        cells = [[row.name, row.component, *_numbers(row.drift)] for row in rows]
        yield table(("tensor", "component", "1-cos", "relative L2", "changed", "max abs diff"), cells, left=2)
    if found.config_changes:
        yield "### Settings"
        values = [(row.file, row.key, _setting(row.base), _setting(row.unlearned)) for row in found.config_changes]
        yield table(("file", "key", "base", "unlearned"), values[:LISTED_CHANGES], left=4)
        if len(values) > LISTED_CHANGES:
            yield f"… and {len(values) - LISTED_CHANGES} more"


def _component_cells(found: Comparison) -> list[list[str]]:
    peaks = component_peaks(found)
    cells = []
    for row in found.components:
        one_minus_cosine, length, changed, largest = _numbers(row.drift)
        size = [f"{row.component} (tied)" if row.tied else row.component, str(row.tensors), amount(row.parameters)]
        peak = number(peaks.get(row.component, math.nan))
        cells.append([*size, one_minus_cosine, length, peak, changed, largest])
    return cells


def _numbers(drift: Drift) -> tuple[str, str, str, str]:
    """1-cos, relative L2, changed share, largest difference."""
    changed = percent(drift.changed_fraction)
    return number(drift.one_minus_cosine), number(drift.relative_l2), changed, number(drift.max_abs_diff)


def _setting(value: str | None) -> str:
    return "(none)" if value is None else shorten(value, 80)
