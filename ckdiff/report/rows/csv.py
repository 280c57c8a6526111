"""A report as CSV, for spreadsheets and data frames: `to_csv(report, Selection("probe"))`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.rows.cells import join_rows
from ckdiff.report.words.sections import WHOLE, Selection

if TYPE_CHECKING:
    from ckdiff.report.schema.campaign import Campaign
    from ckdiff.report.schema.report import Report


def to_csv(found: Report | Campaign, selection: Selection = WHOLE) -> str:
    """Lines with commas between their cells; a cell with a comma or a quotation mark in it is quoted."""
    return join_rows(found, selection, ",")
