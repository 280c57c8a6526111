"""What the commands of the door share: options, and the only functions that print."""

from __future__ import annotations

import contextlib
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType

    from ckdiff.report.campaign_schema import Campaign
    from ckdiff.report.schema import Report


class Format(StrEnum):
    """What stdout carries."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MD = "md"
    JUNIT = "junit"


SECTIONS = {"compare": "compare", "probe": "probe", "behaviour": "behave", "verdict": "audit"}
"""The sections of a report, each with the command that puts it in."""

RESTORED, ASKED, RUNS = "What is restored", "Questions and answers", "How it runs"
"""Groups of the options of `probe` and `behave`."""

FormatOption = Annotated[Format, typer.Option("--format", "-f", help="What to print on stdout.")]
TopOption = Annotated[int, typer.Option("--top", min=0, help="How many tensors and neurons the table lists.")]
BaseArgument = Annotated[str, typer.Argument(help="The model before: directory, file, index, adapter, or hub id@rev.")]
UnlearnedArgument = Annotated[str, typer.Argument(help="The model after.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="The HDF5 report to write.")]
HashOption = Annotated[bool, typer.Option("--hash/--no-hash", help="sha256 of every weight file, in the report.")]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace whatever is at --output, another pair's report too.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks on stderr.")]
AdapterBaseOption = Annotated[
    str | None, typer.Option("--adapter-base", help="Base model of a LoRA adapter whose config names none.")
]
ConceptOption = Annotated[
    str | None, typer.Option("--concept", help="Which concept or subject of the file.", rich_help_panel=ASKED)
]
TemplateOption = Annotated[
    str | None,
    typer.Option("--prompt-template", help="Text around {q}; else 'Question: {q}\\n Answer:'.", rich_help_panel=ASKED),
]
ChatOption = Annotated[
    bool, typer.Option("--chat-template", help="Use the tokenizer's chat template.", rich_help_panel=ASKED)
]
TokenizerOption = Annotated[
    Path | None,
    typer.Option("--tokenizer", help="A directory with a tokenizer, where the base has none.", rich_help_panel=ASKED),
]
StreamOption = Annotated[
    str, typer.Option("--stream", help="One layer in memory at a time: auto, on or off.", rich_help_panel=RUNS)
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.", rich_help_panel=RUNS)]
DtypeOption = Annotated[
    str, typer.Option("--dtype", help="float32, float64, bfloat16 or float16.", rich_help_panel=RUNS)
]
BatchOption = Annotated[
    int, typer.Option("--batch-size", help="Questions that go through a layer together.", rich_help_panel=RUNS)
]
ThreadsOption = Annotated[
    int, typer.Option("--threads", min=0, max=1024, help="CPU threads; 0: all that are there.", rich_help_panel=RUNS)
]
ShowOption = Annotated[
    int, typer.Option("--show-questions", min=0, help="How many questions and answers the table lists.")
]
PairBaseArgument = Annotated[str | None, typer.Argument(help="The model before; without it, the pair of the report.")]
PairUnlearnedArgument = Annotated[str | None, typer.Argument(help="The model after.")]


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
            from ckdiff.report.verdict_tables import verdict_view

            output(verdict_view(report))
        if section == "compare" or (section is None and (not held or "compare" in held)):
            from ckdiff.report.tables import comparison_view

            output(comparison_view(report, top=top))
        if section in (None, "probe") and "probe" in held:
            from ckdiff.report.probe_tables import probe_view

            output(probe_view(report, show_questions))
        if section in (None, "behaviour") and "behaviour" in held:
            from ckdiff.report.behaviour_tables import behaviour_view

            output(behaviour_view(report, show_questions))
        return
    from ckdiff.report.exports import FORMATS, to_csv

    if output_format is Format.CSV and section is not None:
        sys.stdout.write(to_csv(report, section))  # type: ignore[arg-type]  # one of `SECTIONS`, checked by the caller
        return
    sys.stdout.write(FORMATS[output_format.value](report))


@to_reader()
def present_campaign(campaign: Campaign, output_format: Format) -> None:
    """Print the report of a campaign on stdout."""
    if output_format is Format.TABLE:
        from ckdiff.report.campaign_tables import campaign_view

        output(campaign_view(campaign))
        return
    from ckdiff.report.campaign_exports import FORMATS_CAMPAIGN

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
