"""`ckdiff gather`: one report out of many."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ckdiff.cli.console import present, remark
from ckdiff.cli.options import FORMAT, OVERWRITE, POLICY, QUIET, TABLE
from ckdiff.errors import CkdiffError
from ckdiff.options import OUTPUT, Argument, Option

REPORTS = Option("--reports", "Also write each pair's report, all of its jobs in one, here.")


def gather(
    folders: Annotated[list[Path], Argument("Results of one plan; several of shards.", "DIR...")],
    output: Annotated[Path, OUTPUT] = Path("campaign.h5"),
    policy: Annotated[Path | None, POLICY.but("Judge every pair by this TOML file, not by the plan's.", "")] = None,
    reports: Annotated[Path | None, REPORTS] = None,
    output_format: Annotated[str, FORMAT] = TABLE,
    overwrite: Annotated[bool, OVERWRITE.but("Replace a file at --output that is no campaign's report.")] = False,
    quiet: Annotated[bool, QUIET] = False,
) -> None:
    """One report of a campaign: every pair and concept, averages over concepts, and the worst of the gates."""
    from ckdiff.audit.gate.policy import read_policy
    from ckdiff.campaign.gather.gathering import gather as run
    from ckdiff.campaign.gather.gathering import merged_reports
    from ckdiff.campaign.run.store import read_results
    from ckdiff.report.hdf5.file import write_campaign
    from ckdiff.report.hdf5.place import check_writable
    from ckdiff.report.words.campaign import exit_status

    check_writable(output)
    if not overwrite:
        _check_replaceable(output)
    wanted = None if policy is None else read_policy(policy)
    results = read_results(folders)
    found = run(results, wanted)
    if reports is not None:
        _write_reports(reports, merged_reports(results, wanted), quiet)
    write_campaign(found, output)
    present(found, output_format)
    remark(f"campaign: {output}", quiet)
    raise typer.Exit(exit_status(found))


def _check_replaceable(output: Path) -> None:
    """Refuse to replace, unasked, what is not the report of a campaign."""
    from ckdiff.report.hdf5.file import read_campaign

    if not output.exists():
        return
    try:
        read_campaign(output)
    except CkdiffError as error:
        raise CkdiffError(f"{output}: is there and is no campaign's report; use -o FILE, or --overwrite") from error


def _write_reports(folder: Path, found: Any, quiet: bool) -> None:
    from ckdiff.campaign.gather.gathering import file_name
    from ckdiff.report.hdf5.file import write_report

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CkdiffError(f"{folder}: cannot be made ({error.strerror}); name another with --reports") from error
    count = 0
    for pair, concept, report in found:
        write_report(report, folder / file_name(pair, concept))
        count += 1
    remark(f"reports: {count} in {folder}", quiet)
