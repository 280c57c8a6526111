"""`html`: a report as a page that people read."""

from __future__ import annotations

import hashlib
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from ckdiff.errors import CkdiffError

if TYPE_CHECKING:
    from ckdiff.report.schema.campaign import Campaign
    from ckdiff.report.schema.report import Report


def html(
    report: str | PathLike[str] | Report | Campaign,
    output: str | PathLike[str] = "ckdiff.html",
    overwrite: bool = False,
    title: str | None = None,
    note: str | None = None,
    answers: bool = True,
) -> Path:
    """Make a page of a report: one HTML file without network, for screen, phone and print.

    Args:
        report: as it is, or its file.
        output: the file; an older page there is replaced.
        overwrite: whatever is there is replaced, but for the report itself.
        title: the heading; else the names of the pair, or of the campaign.
        note: a line below it: who made the page, and when.
        answers: whether texts of questions and answers are shown; else numbers alone.

    Raises:
        CkdiffError: the report cannot be read, or the place holds something else.
    """
    from ckdiff.report.hdf5.file import read_any
    from ckdiff.report.page import Source, check_place, write_page

    place = Path(output)
    if not isinstance(report, (str, PathLike)):
        write_page(report, place, overwrite, title, note, answers)
        return place
    if place.exists() and Path(report).exists() and place.samefile(report):
        raise CkdiffError(f"{place}: is the report itself; name another file with -o FILE")
    check_place(place, overwrite)
    found, file = read_any(Path(report)), Path(report)
    with file.open("rb") as opened:
        source = Source(file.name, hashlib.file_digest(opened, "sha256").hexdigest())
    write_page(found, place, overwrite, title, note, answers, source)
    return place
