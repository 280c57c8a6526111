"""A report for people: `console.print(to_view(report))`.

The file of a section gives its parts, one after another; an empty line stands behind each. Names come from files that
nobody vouches for: every one of them is made printable and goes into a `Text`, never into markup.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from ckdiff.report.schema.campaign import Campaign
from ckdiff.report.words.sections import WHOLE, Selection, file_of, reading_order

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckdiff.report.schema.report import Report


def to_view(found: Report | Campaign, selection: Selection = WHOLE) -> RenderableType:
    """Everything that a report or a campaign holds, or one section of it, for a terminal of 80 columns and more."""
    if isinstance(found, Campaign):
        parts: list[RenderableType] = [
            part for one in file_of("terminal", "campaign").parts(found) for part in (Text(), one)
        ]
        return Group(*parts[1:])
    if selection.brief and found.verdict is not None:
        return Group(*file_of("terminal", "summary").parts(found, found.verdict, selection.place, selection.typed))
    names = [selection.section] if selection.section else reading_order(found)
    sections = (file_of("terminal", name).parts(found, selection) for name in names)
    return Group(*(part for section in sections for one in section for part in (one, Text())))
