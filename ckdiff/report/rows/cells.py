"""Rows of values as lines of text: `join_rows(report, Selection("probe"), ",")`."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from ckdiff.report.schema.campaign import Campaign
from ckdiff.report.words.numbers import shape_text
from ckdiff.report.words.sections import SECTIONS, Selection, file_of, sections_of
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ckdiff.report.schema.report import Report


def join_rows(found: Report | Campaign, selection: Selection, mark: str) -> str:
    """One section of a report, or a campaign, a row a line; an empty cell is "not defined".

    Args:
        found: what is said.
        selection: names the section; else it is the first that the report holds.
        mark: what stands between cells. None of them holds a tab, a line end or any other control character.
    """
    output = io.StringIO()
    writer = csv.writer(output, delimiter=mark, lineterminator="\n")
    writer.writerows([cell_text(value) for value in row] for row in rows_of(found, selection))
    return output.getvalue()


def rows_of(found: Report | Campaign, selection: Selection) -> Iterable[Sequence[object]]:
    """The names of the columns, then every row of the section that is selected, or of a campaign."""
    if isinstance(found, Campaign):
        rows: Iterable[Sequence[object]] = file_of("rows", "campaign").rows(found)
        return rows
    name = selection.section or next(iter((*sections_of(found), *SECTIONS)))
    rows = file_of("rows", name).rows(getattr(found, name))
    return rows


def cell_text(value: object) -> str:
    """One value: a float in full, nothing for None and NaN, and never what a spreadsheet would run.

    >>> cell_text(0.1), cell_text(float("nan")), cell_text(True), cell_text((2, 3)), cell_text("=1+1")
    ('0.1', '', 'true', '2x3', "'=1+1")
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return shape_text(value)
    if isinstance(value, str):
        text = printable(value)
        return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
    return "" if value is None or value != value else repr(value)
