"""The door: parse, call, present. Nothing is computed here, and everything heavy is imported inside a command."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckdiff import __version__
from ckdiff.errors import CkdiffError, ExitStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console, RenderableType

    from ckdiff.report.schema import Report

app = typer.Typer(
    name="ckdiff",
    help="What did unlearning change in a model, and did the knowledge go away?",
    add_completion=False,
    pretty_exceptions_enable=False,
)


INTERRUPTED = 130
"""What a shell calls a process that Ctrl-C ended."""


class Format(StrEnum):
    """What stdout carries."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MD = "md"


FormatOption = Annotated[Format, typer.Option("--format", "-f", help="What to print on stdout.")]
TopOption = Annotated[int, typer.Option("--top", min=0, help="How many tensors and neurons the table lists.")]
BaseArgument = Annotated[str, typer.Argument(help="The model before: directory, file, index, adapter, or hub id@rev.")]
UnlearnedArgument = Annotated[str, typer.Argument(help="The model after.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="The HDF5 report to write.")]
AdapterBaseOption = Annotated[
    str | None, typer.Option("--adapter-base", help="Base model of a LoRA adapter whose config names none.")
]


@app.callback(invoke_without_command=True)
def door(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """What did unlearning change in a model, and did the knowledge go away?"""
    if version:
        sys.stdout.write(f"ckdiff {__version__}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        sys.stderr.write(f"{context.get_help()}\n")
        raise typer.Exit(ExitStatus.USAGE)


@app.command()
def compare(
    base: BaseArgument,
    unlearned: UnlearnedArgument,
    output: OutputOption = Path("ckdiff.h5"),
    output_format: FormatOption = Format.TABLE,
    top: TopOption = 10,
    hashes: Annotated[
        bool, typer.Option("--hash/--no-hash", help="sha256 of every weight file, in the report.")
    ] = True,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 when the two differ.")] = False,
    adapter_base: AdapterBaseOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace whatever is at --output, another pair's report too.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks on stderr.")] = False,
) -> None:
    """What moved: parameter drift per component, layer, tensor and neuron."""
    from ckdiff.api import CompareSpec
    from ckdiff.api import compare as run
    from ckdiff.report.hdf5 import check_same_pair, check_writable, write_report

    check_writable(output)
    accept = None if overwrite else functools.partial(check_same_pair, output)
    spec = CompareSpec(base, unlearned, hash=hashes, adapter_base=adapter_base)
    with progress("comparing", quiet) as advance:
        report = run(spec, advance, accept)
    write_report(report, output)
    present(report, output_format, top)
    remark(f"report: {output}", quiet)
    raise typer.Exit(verdict(report, exit_code))


@app.command()
def show(
    report: Annotated[Path, typer.Argument(help="A report that ckdiff has written.")],
    output_format: FormatOption = Format.TABLE,
    top: TopOption = 10,
) -> None:
    """Show a report again, as it was printed or in another format."""
    from ckdiff.report.hdf5 import read_report

    present(read_report(report), output_format, top)


@app.command()
def inspect(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint: directory, file, index, adapter, or hub id@rev.")],
    adapter_base: AdapterBaseOption = None,
) -> None:
    """What a checkpoint holds, by component; reads headers only."""
    from ckdiff.api import inspect as look
    from ckdiff.report.tables import inspect_view

    found = look(checkpoint, adapter_base)
    output(inspect_view(found.location, found.model_type, found.rows, found.shards, found.notes))


def verdict(report: Report, exit_code: bool) -> ExitStatus:
    """The exit status of a comparison: nothing compared is inconclusive, never "no drift"."""
    comparison = report.compare
    if comparison is None or not comparison.tensors:
        return ExitStatus.INCONCLUSIVE
    unequal = any(not row.drift.identical for row in comparison.tensors)
    unmatched = comparison.only_in_base or comparison.only_in_unlearned or comparison.shape_mismatch
    if exit_code and (unequal or unmatched or comparison.config_changes):
        return ExitStatus.DIFFERS
    return ExitStatus.OK


def present(report: Report, output_format: Format, top: int) -> None:
    """Print a report on stdout."""
    if output_format is Format.TABLE:
        from ckdiff.report.tables import comparison_view

        output(comparison_view(report, top=top))
        return
    from ckdiff.report.exports import FORMATS

    sys.stdout.write(FORMATS[output_format.value](report))


def output(renderable: RenderableType) -> None:
    """Print a rich renderable on stdout; a pipe gets at least 120 columns, so that numbers are never cut."""
    from rich.console import Console

    console: Console = Console(highlight=False, soft_wrap=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=120)
    console.print(renderable)


def remark(text: str, quiet: bool) -> None:
    """One line on stderr."""
    if not quiet:
        sys.stderr.write(f"{text}\n")


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


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with a status of `ExitStatus`."""
    status = run(arguments)
    # The work is done and said: a late Ctrl-C must not turn a finished run into a killed one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; what a user can mend is one line on stderr, only a bug shows a traceback."""
    # One BLAS thread, before NumPy is imported: blocks are small, and spinning threads cost more than they give.
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character gets its escape, never a traceback.
            stream.reconfigure(errors="backslashreplace")
    try:
        result: Any = typer.main.get_command(app).main(arguments, prog_name="ckdiff", standalone_mode=False)
        sys.stdout.flush()
        # typer turns a KeyboardInterrupt into this status itself.
        return fail("interrupted", INTERRUPTED) if result == INTERRUPTED else int(result or 0)
    except CkdiffError as error:
        return fail(str(error), error.exit_status)
    except (KeyboardInterrupt, typer.Abort):
        return fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing is wrong, and nothing more can be said on stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.OK
    except MemoryError:
        return fail("not enough memory; close other programs or use a machine with more", ExitStatus.USAGE)
    except Exception as error:
        # Usage errors are click's, which some versions of typer carry inside themselves: known by what they can do.
        if hasattr(error, "format_message"):
            return fail(error.format_message(), ExitStatus.USAGE)
        import traceback

        traceback.print_exc()
        return fail("this is a bug in ckdiff; please report it with the lines above", ExitStatus.BUG)


def fail(message: str, status: int) -> int:
    """One line on stderr, whatever the message holds, and the status."""
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in message)
    sys.stderr.write(f"ckdiff: {line}\n")
    return int(status)


if __name__ == "__main__":
    main()
