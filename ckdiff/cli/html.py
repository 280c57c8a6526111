"""What `ckdiff html` does: a report becomes a page that people read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ckdiff.cli.console import remark
from ckdiff.cli.options import QuietOption
from ckdiff.errors import CkdiffError


def html(
    report: Annotated[Path, typer.Argument(help="A report that ckdiff has written.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")] = Path("ckdiff.html"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file at --output that is no page of ckdiff's.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Make a page of a report: one HTML file without network, for screen, phone and print."""
    from ckdiff.report.hdf5.file import read_any
    from ckdiff.report.page import check_place, write_page

    if output.exists() and report.exists() and output.samefile(report):
        raise CkdiffError(f"{output}: is the report itself; name another file with -o FILE")
    check_place(output, overwrite)
    found = read_any(report)
    write_page(found, output, overwrite)
    remark(f"page: {output}", quiet)
