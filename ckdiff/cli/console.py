"""The only place that prints: results on stdout, remarks, progress and errors on stderr."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ckdiff.cli.course import Rest
from ckdiff.errors import INTERRUPTED, ExitStatus
from ckdiff.options import USUAL_REPORT
from ckdiff.scoring.settings import NEEDED

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from ckdiff.calls.attack import AttackOutline
    from ckdiff.cli.course import Course
    from ckdiff.probes.outline import Outline, ProbeOutline
    from ckdiff.report.schema.campaign import Campaign
    from ckdiff.report.schema.report import Report

    Show = Callable[[str, float, float, str], None]


def open_streams() -> None:
    """Make both streams ready: one that was closed before we began (`>&-`) is None and takes nothing.

    A terminal that cannot show a character gets its escape, never a traceback.
    """
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def close_stdout() -> None:
    """The reader of our output went away (`| head`): nothing is wrong, and nothing more can be said on stdout."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def flush_stdout() -> None:
    """Print what is still held back.

    Raises:
        BrokenPipeError: the reader of our output went away.
    """
    sys.stdout.flush()


@contextlib.contextmanager
def to_reader() -> Iterator[None]:
    """Print on stdout inside: a reader that has gone away (`| head`) is no reason for another exit status."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        close_stdout()


@to_reader()
def write(text: str) -> None:
    """Print a text on stdout, as it is."""
    sys.stdout.write(text)


def write_lines(lines: Iterable[str]) -> None:
    """Print lines on stdout, each as soon as it is there."""
    with to_reader():
        for line in lines:
            sys.stdout.write(f"{line}\n")


def write_json(tree: Any, indent: int = 2) -> None:
    """Print a tree on stdout as JSON."""
    write(json.dumps(tree, indent=indent) + "\n")


@to_reader()
def present(
    found: Report | Campaign,
    output_format: str,
    top: int = 10,
    section: str | None = None,
    show_questions: int = 0,
    brief: bool = False,
    place: Path | None = None,
    typed: Mapping[str, str] | None = None,
) -> None:
    """Print a report, or one section of it where the format can, or a campaign, on stdout; `place` is its file."""
    from ckdiff.report.formats import say
    from ckdiff.report.words.sections import Selection

    said = say(
        found, output_format, Selection(section, top, show_questions, brief, str(place or USUAL_REPORT), typed or {})
    )
    if isinstance(said, str):
        sys.stdout.write(said)
    else:
        output(said)


def output(renderable: RenderableType) -> None:
    """Print a rich renderable on stdout; a pipe gets at least 120 columns, so that numbers are never cut."""
    from rich.console import Console

    class Door(Console):
        """Rich would end the process with a status of its own."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    console = Door(highlight=False, soft_wrap=False)
    if os.environ.get("COLUMNS", "") in ("", "0") and not console.is_terminal:
        console = Door(highlight=False, width=120)
    with to_reader():
        console.print(renderable)


def remark(text: str, quiet: bool = False) -> None:
    """One line on stderr; a stderr that takes nothing (a full disk, a reader that went away) changes no exit status.

    A signal may come in the midst of a line, and what answers it cannot use the same buffer then: it writes past it.
    """
    if quiet:
        return
    try:
        try:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
        except RuntimeError:
            os.write(sys.stderr.fileno(), f"{text}\n".encode(errors="replace"))
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def inconclusive(reason: str) -> ExitStatus:
    """The status of what was not measured, and its reason on stderr."""
    remark(f"ckdiff: inconclusive: {reason}")
    return ExitStatus.INCONCLUSIVE


def fail(message: str, status: int, words: Sequence[str] = ()) -> int:
    """One line on stderr, whatever the message holds, and the status.

    Where the words of the command line ask for a format that a build server keeps, stdout says it in that format: a
    page that shows test results must not show an old one, or none.
    """
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in message)
    remark(f"ckdiff: {line}")
    if words and status in KINDS:
        # What cannot be said twice has been said once, and changes no status.
        with contextlib.suppress(Exception):
            _leave_paper(words, line, KINDS[status])
    return int(status)


KINDS: dict[int, str] = {
    ExitStatus.USAGE: "unusable",
    ExitStatus.INCONCLUSIVE: "inconclusive",
    ExitStatus.BUG: "bug",
    INTERRUPTED: "interrupted",
}
"""Endings without a result, in a word."""


def _leave_paper(words: Sequence[str], message: str, kind: str) -> None:
    from ckdiff.report.formats import say_failure

    if text := say_failure(asked_format(words), words[0], message, kind):
        write(text)


def asked_format(words: Sequence[str]) -> str:
    """The format that a command line asks for; empty where it asks for none.

    >>> [asked_format(text.split()) for text in ("gate r.h5 --format junit", "show -fmd", "show -f", "show")]
    ['junit', 'md', '', '']
    """
    found = ""
    for place, word in enumerate(words):
        if word in ("--format", "-f"):
            found = "".join(words[place + 1 : place + 2])
        elif word.startswith("--format="):
            found = word.removeprefix("--format=")
        elif word.startswith("-f") and not word.startswith("--"):
            found = word.removeprefix("-f")
    return found


def report_bug(words: Sequence[str] = ()) -> int:
    """The traceback of what is being handled, and the status of a bug."""
    import traceback

    remark(traceback.format_exc().rstrip("\n"))
    return fail("this is a bug in ckdiff; please report it with the lines above", ExitStatus.BUG, words)


def watched(quiet: bool) -> bool:
    """Whether somebody looks at progress: stderr is a terminal, and nobody asked for silence."""
    return not quiet and sys.stderr.isatty()


@contextlib.contextmanager
def bars(quiet: bool, course: Course | None = None) -> Iterator[Show]:
    """Progress on stderr, only where that is a terminal: a line for each stage that is under way, and no other.

    What it gives is told (stage, done, in all, detail). A stage of one step has no share that is done: its bar moves.
    """
    if not watched(quiet):
        yield lambda stage, done, total, detail: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.text import Text

    class Rest(ProgressColumn):
        """Rich's own forgets what is older than half a minute, and a layer may take longer."""

        def render(self, task: Task) -> Text:
            done, left = task.completed - task.fields["begun"], (task.total or task.completed + 1) - task.completed
            elapsed = task.finished_time if task.finished else task.elapsed
            rest = rest_text(elapsed or 0.0, task.fields["told"], done, left)
            return Text(f"{rest}{whole_text(None if course is None else course.rest())}")

    names = ("{task.description}", None, "{task.fields[share]}", "{task.fields[detail]}")
    columns = [BarColumn() if name is None else TextColumn(name) for name in names]
    with Progress(*columns, Rest(), console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Task] = {}

        def show(stage: str, done: float, total: float, detail: str) -> None:
            if stage not in tasks:
                for name in [name for name, task in tasks.items() if task.finished]:
                    bar.remove_task(tasks.pop(name).id)
                number = bar.add_task(stage, total=None, share="", detail="", begun=done, told=0.0)
                tasks[stage] = bar.tasks[bar.task_ids.index(number)]
            task, moves = tasks[stage], total > 1 or done >= total
            share = f"{done / total:>4.0%}" if moves and total else ""
            told = task.elapsed or 0.0
            bar.update(task.id, total=total if moves else None, completed=done, share=share, detail=detail, told=told)

        yield show


def rest_text(elapsed: float, told: float, done: float, left: float) -> str:
    """How long a stage has taken, or will take if it goes on as it did from its beginning.

    Args:
        elapsed: seconds since its beginning.
        told: seconds from there to the last news of it.
        done: so much had been done by then.
        left: so much had not.

    >>> rest_text(70, 60, 2, 6), rest_text(60, 0, 0, 8), rest_text(3700, 3700, 8, 0)
    ('2:50 left of this stage', '1:00 so far', '1:01:40')
    """
    if left <= 0:
        return _clock(elapsed)
    if done <= 0:
        return f"{_clock(elapsed)} so far"
    return f"{_clock(max(told * left / done - (elapsed - told), 0))} left of this stage"


def whole_text(rest: Rest | None) -> str:
    """What is left of all parts together, behind what is left of a stage.

    >>> whole_text(Rest(200, True)), whole_text(Rest(50, False)), whole_text(Rest(0, False)), whole_text(None)
    (', about 3 min of all', ', at least 50 s of all', ', longer than expected', '')
    """
    if rest is None:
        return ""
    if not rest.all and not rest.seconds:
        return ", longer than expected"
    return f", {'about' if rest.all else 'at least'} {duration(rest.seconds)} of all"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def write_outline(outline: ProbeOutline) -> None:
    """Print what `--plan` says: the work, the memory and the time of a probe."""
    from ckdiff.probes.outline import SWEPT

    share = outline.operations / outline.plain
    runs, seconds, more = str(outline.runs), duration(outline.seconds), ""
    if outline.least is not None:
        runs, more = f"{outline.least[0]} to {runs}", f": of {NEEDED} modes, those that the verdict places"
        needed = f"if it needs {SWEPT:.0%} of the windows, as on real pairs; {duration(outline.least[1])} if none"
        seconds = f"{duration(outline.expected)} {needed}, {seconds} if all"
    runs = f"{runs} (controls included), {len(outline.windows)} windows{more}"
    _write_work(outline, runs, f", {share:.2f} of one full forward a run", "both", seconds)


def write_depth(outline: Outline) -> None:
    """Print what `--plan` says of a depth: the work, the memory and the time."""
    runs = f"{outline.runs}: two models' states behind each layer"
    _write_work(outline, runs, "", "all three", duration(outline.seconds))


def _write_work(outline: Outline, runs: str, more: str, models: str, seconds: str) -> None:
    lines = [
        ("model", f"{outline.model_type}, {outline.layers} layers"),
        ("questions", f"{outline.questions}, {outline.positions} positions of which {outline.scored} are scored"),
        ("runs", runs),
        ("work", f"{outline.operations / 1e12:.3g} TFLOP{more}"),
        ("memory", f"about {outline.memory / 1e9:.3g} GB of {outline.free / 1e9:.3g} GB free"),
        ("streaming", "one layer at a time" if outline.stream else f"no, {models} models stay in memory"),
        ("passes", str(outline.passes)),
        ("reads", f"{outline.bytes_read / 1e9:.3g} GB from the checkpoints"),
        ("time", f"about {seconds}, loading aside{busy_text()}"),
    ]
    write_lines(f"{name:<11}{text}" for name, text in lines)


def write_attacks(outline: AttackOutline) -> None:
    """Print what `--plan` says of attacks: texts by attack, memory and time."""
    from ckdiff.attacks.table import ATTACKS

    memory = f"about {outline.memory / 1e9:.3g} GB of {outline.free / 1e9:.3g} GB free"
    lines = [(name, f"{count} texts") for name, count in outline.attacks.items()]
    lines += [("memory", memory), ("streaming", "one layer at a time" if outline.stream else "no, one model at a time")]
    less = "; less where answers come back early" if any(ATTACKS[name].trains for name in outline.attacks) else ""
    parts = [f"tier {tier} about {duration(seconds)}" for tier, seconds in outline.tiers.items()]
    lines += [("time", f"{', '.join(parts)}, loading aside{less}{busy_text()}")]
    write_lines(f"{name:<11}{text}" for name, text in lines)


BUSY = 0.75
"""Of the cores, beyond which others are at work: a time that is measured then is too long."""


def busy_text() -> str:
    """What is to be said of a time that was measured while others were at work; empty where nobody was."""
    from ckdiff.weights.crew import core_count

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return "; measured while the machine was busy: expect less" if load > BUSY * core_count() else ""


def duration(seconds: float) -> str:
    """A rough time: `20 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
