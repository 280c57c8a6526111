"""Rows of values as lines of text: `join_rows(report, Selection("probe"), ",")`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.schema.campaign import Campaign
from ckdiff.report.words.cells import write_cells
from ckdiff.report.words.sections import SECTIONS, Selection, file_of, sections_of

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
    return write_cells(rows_of(found, selection), mark)


def rows_of(found: Report | Campaign, selection: Selection) -> Iterable[Sequence[object]]:
    """The names of the columns, then every row of the section that is selected, or of a campaign."""
    if isinstance(found, Campaign):
        rows: Iterable[Sequence[object]] = file_of("rows", "campaign").rows(found)
        return rows
    name = selection.section or next(iter((*sections_of(found), *SECTIONS)))
    rows = file_of("rows", name).rows(getattr(found, name))
    return rows
