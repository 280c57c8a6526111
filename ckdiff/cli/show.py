"""`ckdiff show`: a report again, as it was printed or in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ckdiff.cli.console import (
    SECTIONS,
    Format,
    present,
    present_campaign,
    remark,
    sections,
)
from ckdiff.cli.options import FormatOption, ShowOption, TopOption
from ckdiff.errors import CkdiffError


def show(
    report: Annotated[Path, typer.Argument(help="A report that ckdiff has written.")],
    output_format: FormatOption = Format.TABLE,
    top: TopOption = 10,
    section: Annotated[
        str | None,
        typer.Option("--section", help="compare, probe, behaviour or verdict: only that part of the table or CSV."),
    ] = None,
    show_questions: ShowOption = 0,
) -> None:
    """Show a report again, as it was printed or in another format."""
    from ckdiff.report.hdf5.file import read_any
    from ckdiff.report.schema.campaign import Campaign

    if section is not None and section not in SECTIONS:
        raise CkdiffError(f"--section: no {section!r}; there are {', '.join(SECTIONS)}")
    found = read_any(report)
    if isinstance(found, Campaign):
        if section is not None:
            raise CkdiffError(f"{report}: holds a campaign, which has no sections; leave --section away")
        present_campaign(found, output_format)
        return
    held = sections(found)
    if section is not None and section not in held:
        raise CkdiffError(f"{report}: holds no {section}; `ckdiff {SECTIONS[section]}` puts one in")
    if output_format is Format.CSV and section is None and len(held) > 1:
        others = " or ".join(f"--section {name}" for name in held[1:])
        remark(f"one table only: {others} for the other{'s' if len(held) > 2 else ''}", quiet=False)
    present(found, output_format, top, section, show_questions)
