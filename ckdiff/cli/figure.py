"""`ckdiff figure`: a report as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from ckdiff.calls.figure import Drawing
from ckdiff.calls.figure import figure as draw
from ckdiff.cli.console import remark
from ckdiff.cli.options import OVERWRITE
from ckdiff.options import OUTPUT, Argument


def figure(
    reports: Annotated[
        list[Path], Argument("A report with a probe, reports with behaviour, attacks or discovery, or a campaign.")
    ],
    drawing: Drawing,
    output: Annotated[Path, OUTPUT.but("An .svg, .png or .pdf file.")] = Path("ckdiff.svg"),
    overwrite: Annotated[bool, OVERWRITE.but("Replace a file at --output that is no figure of ckdiff's.")] = False,
) -> None:
    """Draw a probe (score against layer, with intervals), behaviour, attacks, lost words, or a campaign's averages."""
    draw(reports, output, overwrite, **vars(drawing))
    remark(f"figure: {output}")
