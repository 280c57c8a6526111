"""A campaign in Markdown: a row for each pair and concept, averages, jobs without a result, notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.markdown.parts import escape, listed, table
from ckdiff.report.words.campaign import (
    AVERAGE_HEADS,
    MEAN_HEADS,
    OVERVIEW_LEGEND,
    average_cells,
    averages_legend,
    averages_of,
    campaign_facts,
    exit_text,
    group_names,
    job_line,
    mean_cells,
    means_of,
    overview,
    pair_cells,
    undone,
)
from ckdiff.report.words.probe import direction_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ckdiff.report.schema.campaign import Campaign, Cell

NOTHING = "NOTHING WAS ASKED"


def parts(found: Campaign) -> Iterator[str]:
    """Everything, a paragraph, list or table each."""
    (_, name), *rest = campaign_facts(found)
    yield f"## Campaign: {escape(name)}"
    yield f"**{escape(exit_text(found))}**"
    yield listed(f"{label}: {value}" for label, value in rest)
    yield "### Pairs"
    if found.cells:
        heads = ("pair", "concept", "verdict", "carried by", "gate", "explained", "target BLEU", "unrelated BLEU")
        yield table(heads, _overview_cells(found), left=5)
        yield escape(OVERVIEW_LEGEND)
    else:
        yield f"**{NOTHING}**"
    if missed := [f"{_place(cell)}: {cell.checks}" for cell in found.cells if cell.checks]:
        yield "### Checks that did not pass"
        yield listed(missed)
    for group in group_names(found):
        yield from _group_sections(found, group)
    if legend := averages_legend(found):
        yield escape(legend)
    if jobs := undone(found.jobs):
        yield "### Jobs without a result"
        yield listed(map(job_line, jobs))
    if found.notes:
        yield "### Notes"
        yield listed(found.notes)
    yield "### What this is about"
    columns = ("pair", "group", "base", "unlearned", "base digest", "unlearned digest")
    yield table(columns, map(pair_cells, found.pairs), left=6)
    yield f"ckdiff {escape(found.versions.get('ckdiff', '(version not stated)'))}."


def _overview_cells(found: Campaign) -> Iterator[tuple[str, ...]]:
    for row in overview(found):
        explained = f"{row.explained} {row.interval}".rstrip()
        words = row.pair, row.concept, row.label, row.carrier, row.gate
        yield *words, explained, row.target_bleu, row.unrelated_bleu


def _group_sections(found: Campaign, group: str) -> Iterable[str]:
    for direction, runs in averages_of(found, group):
        yield f"### Averages of {escape(group)} over concepts, {escape(direction_words(direction))}"
        yield table(AVERAGE_HEADS, map(average_cells, runs), left=3)
    if means := means_of(found, group):
        yield f"### Means of {escape(group)} over concepts"
        yield table(MEAN_HEADS, map(mean_cells, means), left=1)


def _place(cell: Cell) -> str:
    return f"{cell.pair}, {cell.concept}" if cell.concept else cell.pair
