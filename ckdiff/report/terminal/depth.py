"""Depth on a terminal: one line, layer by layer, and the answers that are carried most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from ckdiff.report.terminal.parts import (
    RAMP,
    bar,
    bare,
    bullets,
    dim,
    facts,
    fitting_table,
    number_columns,
    pair_facts,
    warnings,
    with_title,
    words_column,
)
from ckdiff.report.words import depth as words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from ckdiff.report.schema.depth import DepthReport
    from ckdiff.report.schema.report import Report
    from ckdiff.report.words.sections import Selection

SHOWN = 5
"""Questions that are listed unasked."""


def parts(report: Report, selection: Selection) -> Iterator[RenderableType]:
    """Everything a reader of `ckdiff depth` needs."""
    found = report.depth
    yield facts([*pair_facts(report), *(words.facts_of(found) if found is not None else ())])
    yield from warnings(report, "" if found is not None else words.NO_DEPTH)
    if found is None:
        return
    yield Text(words.headline(found), style="bold")
    yield with_title("By layer", _layers(found), dim(" ".join(words.LEGEND)))
    if rows := words.carried(found)[: selection.questions or SHOWN]:
        table = fitting_table(words.QUESTION_HEADS, [*map(words.question_cells, rows)], (0, 1))
        left = len(found.questions) - len(rows)
        more = [dim(f"… and {left} more, which are carried less")] if left else []
        yield with_title("Answers, carried most first", table, *more)
    if notes := words.every_note(found):
        yield with_title("Notes", bullets(notes))


def _layers(found: DepthReport) -> RenderableType:
    """A row a layer, with what is still carried as a bar."""
    table = bare()
    number_columns(table, (head.replace(" of ", " of\n") for head in words.LAYER_HEADS))
    words_column(table, "still carried")
    for cells, share in zip(words.layer_cells(found), found.share.tolist(), strict=True):
        carried = Text() if share != share else bar(min(len(RAMP) - 1, int((1 - share) * len(RAMP))), 4)
        table.add_row(*map(Text, cells), carried)
    return table
