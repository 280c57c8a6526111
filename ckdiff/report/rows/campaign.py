"""The rows of a campaign: one a pair and concept, with all of its measures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.schema.campaign import MEASURES
from ckdiff.report.words.campaign import Figures, missing_jobs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.report.schema.campaign import Campaign

CELL = ("label", "component", "layers", "gate", "questions")

NUMBERS = tuple(name + end for name in MEASURES for end in ("", "_low", "_high"))


def rows(found: Campaign) -> Iterator[Sequence[object]]:
    """The names of the columns, then every pair and concept; an empty cell is "not measured"."""
    yield ["pair", "group", "concept", "required", *CELL, *NUMBERS, "verdict", "checks", "not_done"]
    figures, left, pairs = Figures(found), missing_jobs(found), {pair.name: pair for pair in found.pairs}
    for cell in found.cells:
        pair = pairs[cell.pair]
        own = (getattr(cell, name) for name in CELL)
        numbers = (value for name in MEASURES for value in figures.of(cell, name))
        words = cell.verdict, cell.checks, left[cell.pair, cell.concept]
        yield [pair.name, pair.group, cell.concept, pair.required, *own, *numbers, *words]
