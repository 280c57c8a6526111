"""How deep it goes: layer by layer, and every answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.page.parts import Part, cut
from ckdiff.report.words import depth as words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckdiff.report.schema.report import Report

MOST = 200
"""Rows of a table; what is beyond is counted."""


def show(report: Report) -> Mapping[str, object] | None:
    """Everything that was measured beside the reference."""
    found = report.depth
    if found is None:
        return None
    return {
        "headline": words.headline(found),
        "facts": [(name.capitalize(), cut(text)) for name, text in words.facts_of(found)],
        "layer_heads": words.LAYER_HEADS,
        "layers": words.layer_cells(found),
        "question_heads": words.QUESTION_HEADS,
        "questions": [tuple(map(cut, words.question_cells(one))) for one in words.carried(found)],
        "notes": [cut(note) for note in words.every_note(found)],
        "legend": " ".join(words.LEGEND),
        "most": MOST,
    }


PARTS = (Part(26, "depth", "How deep it goes", "depth.html", show),)
