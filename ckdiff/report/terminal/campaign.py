"""A campaign on a terminal: `console.print(view(campaign))`.

A row for each pair and concept comes first; then what each group of pairs says on average, the jobs without a result,
and what to beware of. The last line is the exit status with its reasons.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ckdiff.errors import ExitStatus
from ckdiff.report.schema.probe import SCORES
from ckdiff.report.terminal.parts import bullets, facts, number_columns, plain_table, safe, titled
from ckdiff.report.words.campaign import (
    AVERAGE_HEADS,
    MEAN_HEADS,
    OVERVIEW_LEGEND,
    average_cells,
    averages_legend,
    averages_of,
    campaign_facts,
    complete_text,
    exit_status,
    exit_text,
    group_names,
    job_line,
    mean_cells,
    means_of,
    overview,
    sample_text,
    undone,
)
from ckdiff.report.words.numbers import counted
from ckdiff.report.words.probe import direction_words
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import RenderableType

    from ckdiff.report.schema.campaign import AverageRun, Campaign, GroupMean, JobRecord


LISTED_JOBS = 50


COUNTS = AVERAGE_HEADS[-2:]
"""Columns that the heading has room for."""


NOTHING = "NOTHING WAS ASKED"


STYLES = {"passed": "bold green", "failed": "bold red", "inconclusive": "bold yellow"}


ENDS = {ExitStatus.OK: "passed", ExitStatus.DIFFERS: "failed", ExitStatus.INCONCLUSIVE: "inconclusive"}


def view(found: Campaign) -> RenderableType:
    """Everything a reader of `ckdiff gather` needs, for a terminal of 80 columns and more."""
    parts: list[RenderableType] = [facts(campaign_facts(found))]
    if not found.complete:
        parts.append(Text(complete_text(found), style="bold red"))
    parts.append(titled("Pairs", _overview(found)) if found.cells else Text(NOTHING, style="bold red"))
    for group in group_names(found):
        parts += _group(found, group)
    if legend := averages_legend(found):
        parts.append(Text(legend, style="dim"))
    if jobs := undone(found.jobs):
        parts.append(titled(f"Jobs without a result ({len(jobs):,})", _jobs(jobs)))
    if found.notes:
        parts.append(titled("Notes", bullets(found.notes)))
    parts.append(Text(exit_text(found), style=STYLES[ENDS[exit_status(found)]]))
    spaced = itertools.chain.from_iterable((Text(), part) for part in parts)
    return Group(*itertools.islice(spaced, 1, None))


def _overview(found: Campaign) -> RenderableType:
    """Two lines a row: the pair and its concept, the verdict and what carries the effect, the figures, the gate."""
    table = _columns()
    table.add_column("pair\n concept", overflow="fold", ratio=1)
    table.add_column("verdict\n carried by", overflow="fold", ratio=1)
    table.add_column("explained", no_wrap=True)
    table.add_column("BLEU:\ntarget", justify="right", no_wrap=True)
    table.add_column("\nunrelated", justify="right", no_wrap=True)
    table.add_column("gate", min_width=10, max_width=10)
    for row in overview(found):
        table.add_row(
            _two(row.pair, row.concept),
            _two(row.label, row.carrier),
            _two(row.explained, row.interval, indent=""),
            row.target_bleu,
            row.unrelated_bleu,
            Text(row.gate, style=STYLES.get(row.outcome, "")),
        )
    return Group(table, Text(OVERVIEW_LEGEND, style="dim"))


def _group(found: Campaign, group: str) -> Iterator[RenderableType]:
    """What the pairs of one group say on average."""
    name = printable(group)
    for direction, runs in averages_of(found, group):
        title = f"Averages of {name} over {sample_text(runs)}, {direction_words(direction)}"
        yield titled(title, _averages(runs))
    if means := means_of(found, group):
        yield titled(f"Means of {name} over concepts", _means(means))


def _averages(runs: Iterable[AverageRun]) -> RenderableType:
    """Two lines a run: mode, window and scores; variant and intervals."""
    table = _columns()
    table.add_column("mode\n variant", overflow="fold")
    table.add_column("best\n width", no_wrap=True)
    for name in (*reversed(SCORES), "top1"):
        table.add_column(Text(name), no_wrap=True)
    for run in runs:
        mode, variant, best, width, *scores = average_cells(run)[: -len(COUNTS)]
        where = Text(best.replace(" (", "\n("), style="" if best.startswith("unsure") else "bold")
        table.add_row(
            _two(mode, variant),
            where if "\n" in where.plain else Text(f"{best}\n {width}"),
            *(Text(score.replace(" [", "\n[", 1).replace(" (", "\n(", 1)) for score in scores),
        )
    return table


def _means(means: Iterable[GroupMean]) -> RenderableType:
    table = plain_table(MEAN_HEADS[0], ())
    table.add_column(MEAN_HEADS[1])
    number_columns(table, MEAN_HEADS[2:])
    for one in means:
        table.add_row(*map(safe, mean_cells(one)))
    return table


def _jobs(jobs: Sequence[JobRecord]) -> RenderableType:
    lines = [job_line(job) for job in jobs[:LISTED_JOBS]]
    if len(jobs) > LISTED_JOBS:
        lines.append(f"and {counted(len(jobs) - LISTED_JOBS, 'other')}")
    return bullets(lines)


def _columns() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")


def _two(first: str, second: str, indent: str = " ") -> Text:
    """Two printable texts, one under the other."""
    return Text(f"{first}\n{indent}{second}" if second else first)
