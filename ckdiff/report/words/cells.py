"""Rows of values as lines of text, for every presenter: `write_cells(rows, ",")`."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from ckdiff.report.words.numbers import shape_text
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def write_cells(rows: Iterable[Sequence[object]], mark: str) -> str:
    """A row a line, `mark` between cells, none of which holds a tab, a line end or any other control character."""
    output = io.StringIO()
    writer = csv.writer(output, delimiter=mark, lineterminator="\n")
    writer.writerows([cell_text(value) for value in row] for row in rows)
    return output.getvalue()


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
