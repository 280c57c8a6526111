"""`ckdiff gate`: an exit status from an existing report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ckdiff.cli.again import type_policy, type_recorded
from ckdiff.cli.console import present, remark
from ckdiff.cli.options import DETAILS, FORMAT, POLICY, QUIET, REPORT, TABLE
from ckdiff.options import Option


def gate(
    report: Annotated[Path, REPORT],
    policy: Annotated[Path | None, POLICY] = None,
    save: Annotated[bool, Option("--save", "Put verdict and gate into the report.")] = False,
    output_format: Annotated[str, FORMAT] = TABLE,
    details: Annotated[bool, DETAILS] = False,
    quiet: Annotated[bool, QUIET] = False,
) -> None:
    """Judge a report that is there, without models; the exit status is that of the policy's gate."""
    from ckdiff.audit.gate.policy import read_policy
    from ckdiff.audit.judge import judge_report
    from ckdiff.cli.session import only_writer
    from ckdiff.report.hdf5.file import read_report, write_report
    from ckdiff.report.hdf5.place import check_writable
    from ckdiff.report.words.gates import replaced_text
    from ckdiff.report.words.verdict import exit_status

    wanted = read_policy(policy)
    if save:
        check_writable(report)
        with only_writer(report):
            before = read_report(report)
            found = judge_report(before, wanted)
            write_report(found, report)
        if replaced := replaced_text(before.verdict, found.verdict):
            remark(f"{report}: {replaced}", quiet)
        remark(f"report: {report}", quiet)
    else:
        found = judge_report(read_report(report), wanted)
    typed = type_recorded(found) | type_policy(wanted, policy)
    present(found, output_format, 10, "verdict", 0, not details, report, typed)
    raise typer.Exit(exit_status(found.verdict))
