"""A report for people: `console.print(to_view(report))`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group

from ckdiff.report.schema.campaign import Campaign
from ckdiff.report.words.sections import WHOLE, Selection, file_of, presented

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckdiff.report.schema.report import Report


def to_view(found: Report | Campaign, selection: Selection = WHOLE) -> RenderableType:
    """Everything that a report or a campaign holds, or one section of it, for a terminal of 80 columns and more."""
    if isinstance(found, Campaign):
        view: RenderableType = file_of("terminal", "campaign").view(found)
        return view
    names = [selection.section] if selection.section else presented(found)
    return Group(*(file_of("terminal", name).view(found, selection) for name in names))
