"""A verdict on one screen of a terminal, twenty lines at most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
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
BROKEN = 2
"""Lines of a question, and of an answer."""
SHORTENED = ((0, 3), (1, 3), (2, 3), (2, 2), (3, 3), (3, 2), (3, 1))
"""What is tried in turn until it fits: the place in `ROOMS` of what a sentence has, and how many answers are shown."""
HEADS = ("question", "base says", "unlearned says")
GAP = 2


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
    yield Screen([
        [*_parts(report, found, place, typed, words.ROOMS[room]), *_last(report, found, place, typed, shown)]
        for room, shown in SHORTENED
    ])  # fmt: skip


def _parts(report: Report, found: Verdict, place: str, typed: Mapping[str, str], room: int) -> Iterator[RenderableType]:
    """Gate, a plain sentence, finding, and facts."""
    if found.gate is not None:
        yield Text(gate_line(found.gate), style=STYLES[found.gate.outcome])
    yield Text(words.in_short(report, found))
    yield Text(verdict_line(found), style="bold")
    yield facts(words.summary_facts(report, found, place, typed, room))


def _last(report: Report, found: Verdict, place: str, typed: Mapping[str, str], shown: int) -> Iterator[RenderableType]:
    """Some answers, and what to type; the rest is read from `place`."""
    if answers := words.summary_answers(report)[:shown]:
        yield SideBySide(answers)
    for command in words.next_commands(report, found, place, typed):
        yield Typed(command)


class SideBySide:
    """Questions with both answers, two lines each; what does not fit is cut."""

    def __init__(self, answers: Sequence[words.Answer]) -> None:
        self.answers = answers

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        needed = [max(map(cell_len, column)) for column in zip(HEADS, *self.answers, strict=True)]
        widths = shared_widths(needed, options.max_width - GAP * len(HEADS))
        table = bare(GAP)
        for name, width in zip(HEADS, widths, strict=True):
            table.add_column(Text(name, overflow="ellipsis"), no_wrap=True, width=width)
        for one in self.answers:
            table.add_row(*(_broken(text, width, BROKEN, console) for text, width in zip(one, widths, strict=True)))
        yield table


def shared_widths(needed: Sequence[int], room: int) -> list[int]:
    """What a question and two answers get of a line: all that they need, or a question up to two fifths of it.

    >>> shared_widths([30, 9, 14], 74), shared_widths([60, 90, 90], 74), shared_widths([60, 9, 90], 74)
    ([30, 9, 14], [29, 22, 23], [29, 9, 36])
    """
    question, base, unlearned = needed
    question = min(question, max(room * 2 // 5, room - base - unlearned))
    base = min(base, max((room - question) // 2, room - question - unlearned))
    return [question, base, max(1, min(unlearned, room - question - base))]


def _broken(text: str, width: int, lines: int, console: Console) -> Text:
    """A text on so many lines, broken between words; the last of them has all the rest."""
    first = Text(text).wrap(console, width)[0].plain.rstrip() if lines > 1 else text
    rest = text[len(first) :].lstrip()
    return Text("\n").join([Text(first), _broken(rest, width, lines - 1, console)]) if rest else Text(first)
