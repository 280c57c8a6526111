"""`ckdiff show`: a report again, as it was printed or in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from ckdiff.cli.console import present, remark
from ckdiff.cli.options import FORMAT, REPORT, SHOW_QUESTIONS, TABLE, TOP
from ckdiff.errors import CkdiffError
from ckdiff.options import Option
from ckdiff.report.formats import FORMATS
from ckdiff.report.words.sections import SECTIONS, sections_of

ALONE = ", ".join(name for name, row in FORMATS.items() if row.carries != "all")
"""The formats that can carry one section."""


SECTION = Option("--section", f"{', '.join(SECTIONS)}: only that part, as {ALONE}.", known=SECTIONS)


def show(
    report: Annotated[Path, REPORT],
    output_format: Annotated[str, FORMAT] = TABLE,
    top: Annotated[int, TOP] = 10,
    section: Annotated[str | None, SECTION] = None,
    show_questions: Annotated[int, SHOW_QUESTIONS] = 0,
) -> None:
    """Show a report again, as it was printed or in another format."""
    from ckdiff.report.hdf5.file import read_any
    from ckdiff.report.schema.campaign import Campaign

    found = read_any(report)
    if isinstance(found, Campaign):
        if section is not None:
            raise CkdiffError(f"{report}: holds a campaign, which has no sections; leave --section away")
        present(found, output_format)
        return
    there = sections_of(found)
    if section is not None and section not in there:
        raise CkdiffError(f"{report}: holds no {section}; `ckdiff {SECTIONS[section].command}` puts one in")
    if FORMATS[output_format].carries == "one" and section is None and len(there) > 1:
        others = " or ".join(f"--section {name}" for name in there[1:])
        remark(f"one table only: {others} for the other{'s' if len(there) > 2 else ''}", quiet=False)
    present(found, output_format, top, section, show_questions)
