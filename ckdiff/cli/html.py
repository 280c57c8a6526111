"""`ckdiff html`: a report becomes a page that people read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from ckdiff.cli.console import remark
from ckdiff.cli.options import OVERWRITE, QUIET, REPORT
from ckdiff.errors import CkdiffError
from ckdiff.options import OUTPUT


def html(
    report: Annotated[Path, REPORT],
    output: Annotated[Path, OUTPUT.but("The HTML file to write.")] = Path("ckdiff.html"),
    overwrite: Annotated[bool, OVERWRITE.but("Replace a file at --output that is no page of ckdiff's.")] = False,
    quiet: Annotated[bool, QUIET] = False,
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
