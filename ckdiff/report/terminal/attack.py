"""Attacks on a terminal: what each tier came to, every attack and setting, and the answers that came back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from ckdiff.report.terminal.parts import (
    bullets,
    dim,
    facts,
    fitting_table,
    mixed_table,
    pair_facts,
    warnings,
    with_title,
)
from ckdiff.report.words import attack as words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from ckdiff.report.schema.attack import AttackReport
    from ckdiff.report.schema.report import Report
    from ckdiff.report.words.sections import Selection


def parts(report: Report, selection: Selection) -> Iterator[RenderableType]:
    """Everything a reader of `ckdiff attack` needs."""
    found = report.attack
    yield facts([*pair_facts(report), *(words.facts_of(found) if found is not None else ())])
    yield from warnings(report, "" if found is not None else words.NOTHING_ATTACKED)
    if found is not None:
        yield Text(words.headline(found, report.verdict), style="bold")
        yield from _tables(found)


def _tables(found: AttackReport) -> Iterator[RenderableType]:
    if found.tiers:
        rows = [words.tier_cells(one) for one in found.tiers]
        yield with_title("Tiers", fitting_table(words.TIER_HEADS, rows, (0, 1, 3)), dim(" ".join(words.TIER_LEGEND)))
    if rows := [words.row_cells(one) for one in words.measured_rows(found)]:
        yield with_title("Attacks", fitting_table(words.ROW_HEADS, rows, (0, 1, 2)), dim(" ".join(words.LEGEND)))
    for title, note, answers in words.returned_tables(found):
        cells = [words.returned_cells(found, one) for one in answers]
        yield with_title(title, mixed_table(words.RETURNED_HEADS, cells, range(5)), *([dim(note)] if note else ()))
    if codes := words.code_cells(words.telling_codes(found)):
        rest = words.rest_of_codes(found)
        yield with_title("Weights alone", mixed_table(words.CODE_HEADS, codes, (0, 1)), *([dim(rest)] if rest else ()))
    if notes := words.every_note(found):
        yield with_title("Notes", bullets(notes))
