"""A verdict on one screen of a terminal, twenty lines at most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from ckdiff.report.terminal.parts import STYLES, bare, facts
from ckdiff.report.words import summary as words
from ckdiff.report.words.commands import break_command
from ckdiff.report.words.verdict import gate_line, verdict_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Verdict


LINES = 20


class Screen:
    """What stands on one screen, in sentences as long as it has lines for at the width that it is shown at."""

    def __init__(self, rooms: Sequence[Sequence[RenderableType]]) -> None:
        self.rooms = rooms

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for room in self.rooms:
            lines = console.render_lines(Group(*room), options, pad=False)
            if len(lines) <= LINES or room is self.rooms[-1]:
                yield Group(*room)
                return


class Typed:
    """A command that can be copied from a terminal of any width."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in break_command(self.command, options.max_width):
            yield Text(line, no_wrap=True, overflow="ignore")


def parts(report: Report, found: Verdict, place: str, typed: Mapping[str, str]) -> Iterator[RenderableType]:
    """One screen, its sentences as long as there is room for."""
    yield Screen([list(_parts(report, found, place, typed, room)) for room in words.ROOMS])


def _parts(report: Report, found: Verdict, place: str, typed: Mapping[str, str], room: int) -> Iterator[RenderableType]:
    """Gate, a plain sentence, finding, facts, three answers, and what to type; the rest is read from `place`."""
    if found.gate is not None:
        yield Text(gate_line(found.gate), style=STYLES[found.gate.outcome])
    yield Text(words.in_short(report, found))
    yield Text(verdict_line(found), style="bold")
    yield facts(words.summary_facts(report, found, place, typed, room))
    if answers := words.summary_answers(report):
        yield side_by_side(answers)
    for command in words.next_commands(report, found, place, typed):
        yield Typed(command)


def side_by_side(answers: Sequence[words.Answer]) -> RenderableType:
    """Questions with both answers, a line each; what does not fit is cut."""
    table = bare()
    for name in ("question", "base says", "unlearned says"):
        table.add_column(Text(name), no_wrap=True, overflow="ellipsis", ratio=1)
    for one in answers:
        table.add_row(*map(Text, one))
    return table
