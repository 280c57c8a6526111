"""A campaign on a terminal.

A row for each pair and concept comes first; then what each group of pairs says on average, the jobs without a result,
and what to beware of. The last line is the exit status with its reasons.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from ckdiff.errors import ExitStatus
from ckdiff.report.terminal.parts import (
    STYLES,
    add_rows,
    bare,
    bullets,
    dim,
    facts,
    number_columns,
    plain_table,
    warning,
    with_title,
    words_column,
)
from ckdiff.report.words import campaign as words
from ckdiff.report.words.numbers import count_of
from ckdiff.report.words.probe import direction_words
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import RenderableType

    from ckdiff.report.schema.campaign import AverageRun, Campaign, GroupMean, JobRecord

LISTED_JOBS = 50

COUNTS = words.AVERAGE_HEADS[-2:]
"""Columns that the heading has room for."""

ENDS = {ExitStatus.OK: "passed", ExitStatus.DIFFERS: "failed", ExitStatus.INCONCLUSIVE: "inconclusive"}


def parts(found: Campaign) -> Iterator[RenderableType]:
    """Everything a reader of `ckdiff gather` needs."""
    yield facts(words.campaign_facts(found))
    if not found.complete:
        yield warning(words.complete_text(found))
    if found.cells:
        yield with_title("Pairs", _overview(found), dim(words.OVERVIEW_LEGEND))
    else:
        yield warning(words.NOTHING)
    for group in words.group_names(found):
        yield from _group(found, group)
    if legend := words.averages_legend(found):
        yield dim(legend)
    if jobs := words.open_jobs(found.jobs):
        yield with_title(f"Jobs without a result ({len(jobs):,})", bullets(_job_lines(jobs)))
    if found.notes:
        yield with_title("Notes", bullets(found.notes))
    yield Text(words.exit_text(found), style=STYLES[ENDS[words.exit_status(found)]])


def _overview(found: Campaign) -> RenderableType:
    """Two lines a row: the pair and its concept, the verdict and what carries the effect, the figures, the gate."""
    table = bare(1)
    words_column(table, "pair\n concept", ratio=1)
    words_column(table, "verdict\n carried by", ratio=1)
    table.add_column("explained", no_wrap=True)
    number_columns(table, ("BLEU:\ntarget", "\nunrelated"))
    table.add_column("gate", min_width=10, max_width=10)
    for row in words.overview(found):
        names = _two(row.pair, row.concept), _two(row.label, row.carrier), _two(row.explained, row.interval, indent="")
        gate = Text(row.gate, style=STYLES.get(row.outcome, ""))
        add_rows(table, [(*names, row.target_bleu, row.unrelated_bleu, gate)])
    return table


def _group(found: Campaign, group: str) -> Iterator[RenderableType]:
    """The averages and means of one group of pairs."""
    name = printable(group)
    for direction, runs in words.averages_of(found, group):
        title = f"Averages of {name} over {words.sample_text(runs)}, {direction_words(direction)}"
        yield with_title(title, _averages(runs))
    if means := words.means_of(found, group):
        yield with_title(f"Means of {name} over concepts", _means(means))


def _averages(runs: Iterable[AverageRun]) -> RenderableType:
    """Two lines a run: mode, window and scores; variant and intervals."""
    table = bare(1)
    words_column(table, "mode\n variant")
    for name in ("best\n width", *words.AVERAGE_HEADS[4 : -len(COUNTS)]):
        table.add_column(Text(name), no_wrap=True)
    for run in runs:
        mode, variant, best, width, *scores = words.average_cells(run)[: -len(COUNTS)]
        where = Text(best.replace(" (", "\n("), style="" if best.startswith("unsure") else "bold")
        cells = (Text(score.replace(" [", "\n[", 1).replace(" (", "\n(", 1)) for score in scores)
        add_rows(table, [(_two(mode, variant), where if "\n" in where.plain else Text(f"{best}\n {width}"), *cells)])
    return table


def _means(means: Iterable[GroupMean]) -> RenderableType:
    table = plain_table(words.MEAN_HEADS[0], ())
    table.add_column(words.MEAN_HEADS[1])
    number_columns(table, words.MEAN_HEADS[2:])
    return add_rows(table, map(words.mean_cells, means))


def _job_lines(jobs: Sequence[JobRecord]) -> Iterator[str]:
    yield from map(words.job_line, jobs[:LISTED_JOBS])
    if len(jobs) > LISTED_JOBS:
        yield f"and {count_of(len(jobs) - LISTED_JOBS, 'other')}"


def _two(first: str, second: str, indent: str = " ") -> Text:
    """Two printable texts, one under the other."""
    return Text(f"{first}\n{indent}{second}" if second else first)
