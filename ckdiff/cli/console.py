"""What commands print: results on stdout, remarks and progress on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rich.console import RenderableType

    from ckdiff.probes.preparation import Outline
    from ckdiff.report.schema.campaign import Campaign
    from ckdiff.report.schema.report import Report


@contextlib.contextmanager
def to_reader() -> Iterator[None]:
    """Print on stdout inside: a reader that has gone away (`| head`) is no reason for another exit status."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@to_reader()
def present(
    found: Report | Campaign, output_format: str, top: int = 10, section: str | None = None, show_questions: int = 0
) -> None:
    """Print a report, or one section of it where the format can, or a campaign, on stdout."""
    from ckdiff.report.formats import say
    from ckdiff.report.words.sections import Selection

    said = say(found, output_format, Selection(section, top, show_questions))
    if isinstance(said, str):
        sys.stdout.write(said)
    else:
        output(said)


def output(renderable: RenderableType) -> None:
    """Print a rich renderable on stdout; a pipe gets at least 120 columns, so that numbers are never cut."""
    from rich.console import Console

    class Door(Console):
        """Its own way to end the process, with a status of its own, is no way of ours."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    console = Door(highlight=False, soft_wrap=False)
    if os.environ.get("COLUMNS", "") in ("", "0") and not console.is_terminal:
        console = Door(highlight=False, width=120)
    with to_reader():
        console.print(renderable)


def remark(text: str, quiet: bool) -> None:
    """One line on stderr."""
    if not quiet:
        sys.stderr.write(f"{text}\n")


def drops_verdict(older: Report | None, output: Path, quiet: bool) -> None:
    """Say that a verdict goes with the measurements that it was about."""
    if older is not None and older.verdict is not None:
        remark(f"{output}: its verdict was about older measurements and is removed; `ckdiff gate --save` judges", quiet)


@contextlib.contextmanager
def progress(label: str, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr, only where that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(label), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def outline_text(found: Outline) -> str:
    """What `--plan` prints."""
    windows = len(found.windows)
    lines = [
        ("model", f"{found.model_type}, {found.layers} layers"),
        ("questions", f"{found.questions}, {found.positions} positions of which {found.scored} are scored"),
        ("runs", f"{found.runs} (controls included), {windows} windows"),
        (
            "work",
            f"{found.operations / 1e12:.3g} TFLOP, {found.operations / found.plain:.2f} of one full forward a run",
        ),
        ("memory", f"about {found.memory / 1e9:.3g} GB of {found.free / 1e9:.3g} GB free"),
        ("streaming", "one layer at a time" if found.stream else "no, both models stay in memory"),
        ("passes", str(found.passes)),
        ("reads", f"{found.bytes_read / 1e9:.3g} GB from the checkpoints"),
        ("time", f"about {duration(found.seconds)}, loading aside"),
    ]
    return "".join(f"{name:<11}{text}\n" for name, text in lines)


def duration(seconds: float) -> str:
    """A rough time: `20 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
