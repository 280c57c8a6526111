"""`ckdiff html`: a report becomes a page that people read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from ckdiff.calls.html import html as write
from ckdiff.cli.console import remark
from ckdiff.cli.options import NO_ANSWERS, OVERWRITE, QUIET, REPORT
from ckdiff.options import NOTE, OUTPUT, TITLE


def html(
    report: Annotated[Path, REPORT],
    output: Annotated[Path, OUTPUT.but("The HTML file to write.")] = Path("ckdiff.html"),
    overwrite: Annotated[bool, OVERWRITE.but("Replace a file at --output that is no page of ckdiff's.")] = False,
    title: Annotated[str | None, TITLE] = None,
    note: Annotated[str | None, NOTE] = None,
    no_answers: Annotated[bool, NO_ANSWERS] = False,
    quiet: Annotated[bool, QUIET] = False,
) -> None:
    """Make a page of a report: one HTML file without network, for screen, phone and print."""
    write(report, output, overwrite, title, note, not no_answers)
    remark(f"page: {output}", quiet)
