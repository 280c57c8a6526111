"""Pieces that the tables of a terminal share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Group
from rich.style import Style
from rich.table import Table
from rich.text import Text

from ckdiff.report.words.numbers import BYTE_UNITS, amount, count_of
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from ckdiff.report.schema.report import CheckpointRecord, Report, ShardRecord

RAMP = "▁▂▃▄▅▆▇█"

SHADES = ("#3b528b", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725")
"""Viridis without its darkest end, which a dark terminal hides."""

STYLES = {"passed": "bold green", "failed": "bold red", "inconclusive": "bold yellow"}
"""Of outcomes; each stands in words, too."""


def pair_facts(report: Report) -> list[tuple[str, str]]:
    """Which two checkpoints a report is about, as rows of `facts`."""
    sides = (("base", report.provenance.base), ("unlearned", report.provenance.unlearned))
    return [fact for name, record in sides for fact in _checkpoint(name, record)]


def _checkpoint(name: str, record: CheckpointRecord) -> Iterator[tuple[str, str]]:
    revision = f" @ {record.revision}" if record.revision else ""
    digest = f"sha256 {record.digest[:12]}" if record.digest else "not hashed"
    yield name, f"{record.location}{revision}"
    yield "", f"{digest}, {file_facts(record.shards)}"


def warnings(report: Report, nothing: str = "") -> Iterator[Text]:
    """Lines to read before any number: that a run was interrupted, and that there is nothing, in words."""
    words = ("" if report.complete else "INCOMPLETE: the run was interrupted", nothing)
    yield from (warning(text) for text in words if text)


def warning(text: str) -> Text:
    """A line that nobody overlooks."""
    return Text(text, style="bold red")


def bar(step: int, width: int) -> Text:
    """One step of the ramp, in its shade."""
    return Text(RAMP[step] * width, style=Style(color=SHADES[step]))


def file_facts(shards: Sequence[ShardRecord]) -> str:
    """How many weight files, and how large together."""
    return f"{count_of(len(shards), 'file')}, {amount(sum(shard.bytes for shard in shards), BYTE_UNITS)}"


def safe(value: str) -> Text:
    """A string from a file, made printable, and never read as markup."""
    return Text(printable(value))


def dim(*lines: str) -> Text:
    """A legend."""
    return Text("\n".join(lines), style="dim")


def with_title(title: str, *body: RenderableType) -> Group:
    """A part of the view under its heading."""
    return Group(Text(title, style="bold"), *body)


def bullets(lines: Iterable[str | Text]) -> RenderableType:
    """One item a line, long ones broken rather than cut, and set in where they go on."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column()
    grid.add_column(overflow="fold")
    for line in lines:
        grid.add_row(" -", line if isinstance(line, Text) else safe(line))
    return grid


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Two columns: what it is, and its value."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, safe(value))
    return table


def bare(gap: int = 2) -> Table:
    """A table without lines and columns."""
    return Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="dim")


def words_column(table: Table, name: str, **how: Any) -> None:
    """A column of words: long ones are broken and not cut."""
    table.add_column(Text(name), overflow="fold", **how)


def number_columns(table: Table, names: Iterable[str]) -> None:
    """Columns of numbers: to the right, and never cut."""
    for name in names:
        table.add_column(Text(name), justify="right", no_wrap=True)


def plain_table(first: str, numbers: Sequence[str], rows: Iterable[Sequence[str]] = ()) -> Table:
    """A table without lines: one column of names and columns of numbers."""
    table = bare()
    words_column(table, first, vertical="bottom")
    number_columns(table, numbers)
    return add_rows(table, rows)


def mixed_table(heads: Sequence[str], rows: Iterable[Sequence[str | Text]], texts: Collection[int]) -> Table:
    """A narrow table whose columns are numbers but for those in some places, which are words."""
    table = bare(1)
    for place, head in enumerate(heads):
        if place in texts:
            words_column(table, head)
        else:
            number_columns(table, [head])
    return add_rows(table, rows)


class Fitting:
    """A table where it has room for its longest words and all of its numbers, and a narrower one where it has not."""

    def __init__(self, width: int, table: Table, narrow: Table) -> None:
        self.width, self.table, self.narrow = width, table, narrow

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.table if self.width <= options.max_width else self.narrow


def fitting_table(heads: Sequence[str], rows: Sequence[Sequence[str]], texts: Collection[int]) -> RenderableType:
    """As `mixed_table`; where that is too wide, headings have a line a word, and what belongs to a figure its own."""
    columns = [[printable(cell) for cell in column] for column in zip(heads, *rows, strict=True)]
    parts = ([part for cell in column for part in _apart(cell, n in texts)] for n, column in enumerate(columns))
    width = sum(max(map(cell_len, found), default=0) + 1 for found in parts) - 1
    cells = [[cell if n in texts else Text(_narrow(cell)) for n, cell in enumerate(row)] for row in rows]
    short = [head if n in texts else head.replace(" ", "\n") for n, head in enumerate(heads)]
    return Fitting(width, mixed_table(heads, rows, texts), mixed_table(short, cells, texts))


def _narrow(cell: str) -> str:
    r"""A figure with its interval, its control and its total in lines of their own.

    >>> _narrow("0.50 [0.40, 0.60]"), _narrow("25.0 %; control 3 of 12")
    ('0.50\n[0.40,\n0.60]', '25.0 %;\ncontrol\n3 of 12')
    """
    figure, bracket, interval = cell.partition(" [")
    interval = interval.replace(", ", ",\n")
    return f"{figure}\n[{interval}" if bracket else figure.replace("; ", ";\n").replace("control ", "control\n")


def _apart(cell: str, wrapped: bool) -> list[str]:
    return cell.split() if wrapped else [cell]


def add_rows(table: Table, rows: Iterable[Sequence[str | Text]]) -> Table:
    """The same table with these rows."""
    for cells in rows:
        table.add_row(*(cell if isinstance(cell, Text) else safe(cell) for cell in cells))
    return table
