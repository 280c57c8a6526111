"""What commands print: results on stdout, remarks and progress on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rich.console import RenderableType

    from ckdiff.probes.preparation import Outline
    from ckdiff.report.schema.campaign import Campaign
    from ckdiff.report.schema.report import Report


class Format(StrEnum):
    """What stdout carries."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MD = "md"
    JUNIT = "junit"


SECTIONS = {"compare": "compare", "probe": "probe", "behaviour": "behave", "verdict": "audit"}
"""The sections of a report, each with the command that puts it in."""


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
    report: Report, output_format: Format, top: int, section: str | None = None, show_questions: int = 0
) -> None:
    """Print a report on stdout, or one section of it where the format can."""
    if output_format is Format.TABLE:
        held = sections(report)
        if section in (None, "verdict") and "verdict" in held:
            from ckdiff.report.terminal.verdict import verdict_view

            output(verdict_view(report))
        if section == "compare" or (section is None and (not held or "compare" in held)):
            from ckdiff.report.terminal.comparison import comparison_view

            output(comparison_view(report, top=top))
        if section in (None, "probe") and "probe" in held:
            from ckdiff.report.terminal.probe import probe_view

            output(probe_view(report, show_questions))
        if section in (None, "behaviour") and "behaviour" in held:
            from ckdiff.report.terminal.behaviour import behaviour_view

            output(behaviour_view(report, show_questions))
        return
    from ckdiff.report.exports.csv import to_csv
    from ckdiff.report.exports.formats import FORMATS

    if output_format is Format.CSV and section is not None:
        sys.stdout.write(to_csv(report, section))  # type: ignore[arg-type]  # one of `SECTIONS`, checked by the caller
        return
    sys.stdout.write(FORMATS[output_format.value](report))


@to_reader()
def present_campaign(campaign: Campaign, output_format: Format) -> None:
    """Print the report of a campaign on stdout."""
    if output_format is Format.TABLE:
        from ckdiff.report.terminal.campaign import campaign_view

        output(campaign_view(campaign))
        return
    from ckdiff.report.exports.campaign import FORMATS_CAMPAIGN

    sys.stdout.write(FORMATS_CAMPAIGN[output_format.value](campaign))


def sections(report: Report) -> list[str]:
    """Which of `SECTIONS` a report holds."""
    return [name for name in SECTIONS if getattr(report, name) is not None]


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
