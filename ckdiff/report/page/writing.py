"""The file of a page: written whole or not at all, and never over something that is not a page, unasked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ckdiff.errors import ReportError
from ckdiff.files import replace_file, unwritable
from ckdiff.report.page.document import BEGINNING, to_html
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from ckdiff.report.page.document import Source
    from ckdiff.report.schema.campaign import Campaign
    from ckdiff.report.schema.report import Report


def write_page(
    report: Report | Campaign,
    path: str | Path,
    overwrite: bool = False,
    title: str | None = None,
    note: str | None = None,
    answers: bool = True,
    source: Source | None = None,
) -> None:
    """Write a report as a page: beside the target, synced, and moved over it.

    Args:
        report: what the page shows.
        path: an older page there is replaced.
        overwrite: any other file there is replaced, too.
        title: the heading; else the names of the pair, or of the campaign.
        note: a line below it.
        answers: whether texts of questions and answers are shown.
        source: its file; None where it is in memory alone.

    Raises:
        ReportError: the place cannot be written to, or holds something else.
    """
    check_place(path, overwrite)
    content = to_html(report, title, note, answers, source).encode("utf-8")
    try:
        replace_file(path, content)
    except OSError as error:
        raise ReportError(f"{printable(path)}: cannot be written: {unwritable(error)}; use -o FILE") from error


def check_place(path: str | Path, overwrite: bool = False) -> None:
    """Refuse a place that holds what is not a page.

    Raises:
        ReportError: a directory, something that is no file, or, without `overwrite`, a file that is not a page.
    """
    target, name = Path(os.path.realpath(path)), printable(path)
    if target.is_dir():
        raise ReportError(f"{name}: is a directory; name a file with -o FILE")
    if not target.exists():
        return
    if not target.is_file():
        raise ReportError(f"{name}: is not a regular file; name a file with -o FILE")
    if not overwrite and not _is_page(target, name):
        raise ReportError(f"{name}: is there and is no page of ckdiff's; use -o FILE, or replace it with --overwrite")


def _is_page(path: Path, name: str) -> bool:
    """Whether a file begins as a page does; an empty file may become one."""
    beginning = BEGINNING.encode()
    try:
        with path.open("rb") as file:
            return file.read(len(beginning)) in (b"", beginning)
    except OSError as error:
        raise ReportError(f"{name}: cannot be read: {error.strerror or error}; use -o FILE") from error
