"""`ckdiff compare`: what moved."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ckdiff.cli.console import (
    drops_verdict,
    present,
    progress,
    remark,
)
from ckdiff.cli.options import (
    TABLE,
    AdapterBaseOption,
    BaseArgument,
    FormatOption,
    HashOption,
    OutputOption,
    OverwriteOption,
    QuietOption,
    TopOption,
    UnlearnedArgument,
)
from ckdiff.errors import ExitStatus

if TYPE_CHECKING:
    from ckdiff.report.schema.report import Report


def compare(
    base: BaseArgument,
    unlearned: UnlearnedArgument,
    output: OutputOption = Path("ckdiff.h5"),
    output_format: FormatOption = TABLE,
    top: TopOption = 10,
    hashes: HashOption = True,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 when the two differ.")] = False,
    adapter_base: AdapterBaseOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """What moved: parameter drift per component, layer, tensor and neuron."""
    from ckdiff.calls.compare import compare as run
    from ckdiff.calls.specs import CompareSpec
    from ckdiff.cli.session import only_writer
    from ckdiff.report.hdf5.file import check_same_pair, check_writable, read_report, write_report

    check_writable(output)
    accept = None if overwrite else functools.partial(check_same_pair, output)
    spec = CompareSpec(base, unlearned, hash=hashes, adapter_base=adapter_base)
    with progress("comparing", quiet) as advance:
        report = run(spec, advance, accept)
    with only_writer(output):
        if output.exists() and not overwrite:
            older = read_report(output)
            drops_verdict(older, output, quiet)
            if older.probe is not None or older.behaviour is not None:
                # What was measured on the same weights stays in the report; what was on others is refused, not dropped.
                from ckdiff.calls.merge import joined

                report = joined(older, report)
        write_report(report, output)
    present(report, output_format, top, "compare")
    remark(f"report: {output}", quiet)
    raise typer.Exit(verdict(report, exit_code))


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
