"""A report as TSV, for `cut`, `awk` and `sort`: `to_tsv(report, Selection("probe"))`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.rows.cells import join_rows
from ckdiff.report.words.sections import WHOLE, Selection

if TYPE_CHECKING:
    from ckdiff.report.schema.campaign import Campaign
    from ckdiff.report.schema.report import Report


def to_tsv(found: Report | Campaign, selection: Selection = WHOLE) -> str:
    """Lines with tabs between their cells, the rows of CSV; a cell with a quotation mark in it is quoted."""
    return join_rows(found, selection, "\t")
