"""A campaign in Markdown: a row for each pair and concept, averages, jobs without a result, notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.markdown.parts import bullet_list, escape, table
from ckdiff.report.words import campaign as words
from ckdiff.report.words.numbers import place_text
from ckdiff.report.words.probe import direction_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.campaign import Campaign

OVERVIEW_HEADS = ("pair", "concept", "verdict", "carried by", "gate", "explained", "target BLEU", "unrelated BLEU")

PAIR_HEADS = ("pair", "group", "base", "unlearned", "base digest", "unlearned digest")


def parts(found: Campaign) -> Iterator[str]:
    """Everything, a paragraph, list or table each."""
    (_, name), *rest = words.campaign_facts(found)
    yield f"## Campaign: {escape(name)}"
    yield f"**{escape(words.exit_text(found))}**"
    yield bullet_list(f"{label}: {value}" for label, value in rest)
    yield "### Pairs"
    if found.cells:
        yield table(OVERVIEW_HEADS, _overview(found), left=5)
        yield escape(words.OVERVIEW_LEGEND)
    else:
        yield f"**{words.NOTHING}**"
    if missed := [f"{place_text(cell.pair, cell.concept)}: {cell.checks}" for cell in found.cells if cell.checks]:
        yield "### Checks that did not pass"
        yield bullet_list(missed)
    yield from _averages(found)
    if jobs := words.open_jobs(found.jobs):
        yield "### Jobs without a result"
        yield bullet_list(map(words.job_line, jobs))
    if found.notes:
        yield "### Notes"
        yield bullet_list(found.notes)
    yield "### What this is about"
    yield table(PAIR_HEADS, map(words.pair_cells, found.pairs), left=6)
    yield f"ckdiff {escape(found.versions.get('ckdiff', '(version not stated)'))}."


def _overview(found: Campaign) -> Iterator[tuple[str, ...]]:
    for row in words.overview(found):
        explained = f"{row.explained} {row.interval}".rstrip()
        yield row.pair, row.concept, row.label, row.carrier, row.gate, explained, row.target_bleu, row.unrelated_bleu


def _averages(found: Campaign) -> Iterator[str]:
    for group in words.group_names(found):
        for direction, runs in words.averages_of(found, group):
            yield f"### Averages of {escape(group)} over concepts, {escape(direction_words(direction))}"
            yield table(words.AVERAGE_HEADS, map(words.average_cells, runs), left=3)
        if means := words.means_of(found, group):
            yield f"### Means of {escape(group)} over concepts"
            yield table(words.MEAN_HEADS, map(words.mean_cells, means), left=1)
    if legend := words.averages_legend(found):
        yield escape(legend)
