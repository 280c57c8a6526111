"""A report as Markdown: `to_markdown(report)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.markdown.parts import escape
from ckdiff.report.schema.campaign import Campaign
from ckdiff.report.words.sections import SECTIONS, WHOLE, Selection, file_of, reading_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.report.schema.report import Report


def to_markdown(found: Report | Campaign, selection: Selection = WHOLE) -> str:
    """A summary to paste into an issue or a model card: every section that a report holds, a verdict first, or one."""
    if isinstance(found, Campaign):
        parts = file_of("markdown", "campaign").parts(found)
    else:
        parts = _parts(found, [selection.section] if selection.section else reading_order(found))
    return "\n\n".join(parts) + "\n"


def _parts(report: Report, names: Sequence[str]) -> Iterator[str]:
    for place, name in enumerate(names):
        title, *rest = file_of("markdown", name).parts(report)
        yield title
        if place == 0 and SECTIONS[name].measured:
            sides = report.provenance
            yield f"base: {escape(sides.base.location)}  \nunlearned: {escape(sides.unlearned.location)}"
        yield from rest
