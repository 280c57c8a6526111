"""A report beside what OpenUnlearning's evaluator wrote, on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from ckdiff.report.terminal.parts import bare, dim, number_columns, safe, words_column
from ckdiff.report.words.behaviour import short_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

HEADS = ("file", "base", "unlearned", "file - unlearned")
LEGEND = (
    "Figures of one model differ with the prompt, the words of the answers that are scored, and the dtype;",
    "ROUGE is of stems there, of words here; extraction strength is 1 / tokens there where the last token is missed.",
)


def table_of(name: str, rows: Sequence[tuple[str, Sequence[float]]]) -> RenderableType:
    """One row a metric.

    Args:
        name: of the file.
        rows: the metric, then figures for `HEADS`.
    """
    table = bare()
    words_column(table, "metric")
    number_columns(table, HEADS)
    for metric, figures in rows:
        table.add_row(safe(metric), *(Text(short_number(one)) for one in figures))
    return Group(safe(f"Beside {name}"), table, dim(*LEGEND))
