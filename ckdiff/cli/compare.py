"""`ckdiff compare`: what moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ckdiff.calls.specs import CompareSpec
from ckdiff.cli.console import present
from ckdiff.cli.options import FORMAT, TABLE, THREADS, TOP, Output
from ckdiff.cli.session import Session
from ckdiff.errors import ExitStatus
from ckdiff.options import Option

if TYPE_CHECKING:
    from ckdiff.report.schema.report import Report


def compare(
    spec: CompareSpec,
    output: Output,
    output_format: Annotated[str, FORMAT] = TABLE,
    top: Annotated[int, TOP] = 10,
    threads: Annotated[int, THREADS.but("Threads that compare, and that hash files beside that; 0: one a core.")] = 0,
    exit_code: Annotated[bool, Option("--exit-code", "Exit with 1 when the two differ.")] = False,
) -> None:
    """What moved: parameter drift per component, layer, tensor and neuron."""
    from ckdiff.calls.compare import compare as run

    session = Session(output)
    report = session.work(
        lambda listener: run(
            spec,
            lambda done, total: listener.progress("comparing", done, total, ""),
            accept=session.accept,
            threads=threads,
            meanwhile=lambda: import_presenters(output_format),
        )
    )
    report = session.write(report, "compare")
    present(report, output_format, top, "compare")
    session.say(f"report: {output.output}")
    raise typer.Exit(status_of(report, exit_code))


def import_presenters(output_format: str) -> None:
    """Import what writes and what shows a report."""
    from ckdiff.report.formats import load
    from ckdiff.report.hdf5.file import load_library

    load_library()
    load(output_format)


def status_of(report: Report, exit_code: bool) -> ExitStatus:
    """The exit status of a comparison: nothing compared is inconclusive, never "no drift"."""
    comparison = report.compare
    if comparison is None or not comparison.tensors:
        return ExitStatus.INCONCLUSIVE
    unequal = any(not row.drift.identical for row in comparison.tensors)
    unmatched = comparison.only_in_base or comparison.only_in_unlearned or comparison.shape_mismatch
    if exit_code and (unequal or unmatched or comparison.config_changes):
        return ExitStatus.DIFFERS
    return ExitStatus.OK
