"""The answers that came back under attack: tiers, every attack, the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.page.parts import Part, cut
from ckdiff.report.words import attack as words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckdiff.report.schema.report import Report

MOST = 200
"""Rows of a table; what is beyond is counted."""


def show(report: Report) -> Mapping[str, object] | None:
    """Everything that was attacked."""
    found = report.attack
    if found is None:
        return None
    return {
        "headline": words.headline(found, report.verdict),
        "facts": [(name.capitalize(), cut(text)) for name, text in words.facts_of(found)],
        "tier_heads": words.TIER_HEADS,
        "tiers": [tuple(map(cut, words.tier_cells(one))) for one in found.tiers],
        "row_heads": words.ROW_HEADS,
        "rows": [tuple(map(cut, words.row_cells(one))) for one in words.measured_rows(found)],
        "returned_heads": words.RETURNED_HEADS,
        "returned": [
            (title, note, [tuple(map(cut, words.returned_cells(found, one))) for one in answers])
            for title, note, answers in words.returned_tables(found)
        ],
        "code_heads": words.CODE_HEADS,
        "codes": words.code_cells(found.codes),
        "notes": [cut(note) for note in words.every_note(found)],
        "legend": " ".join(words.LEGEND),
        "tier_legend": " ".join(words.TIER_LEGEND),
        "most": MOST,
    }


PARTS = (Part(25, "attack", "Does it come back", "attack.html", show),)
