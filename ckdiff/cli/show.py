"""`ckdiff show`: a report again, as it was printed or in another format."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ckdiff.cli.again import type_recorded
from ckdiff.cli.console import output, present, remark, write_json
from ckdiff.cli.options import FORMAT, NO_ANSWERS, REPORT, SHOW_QUESTIONS, TABLE, TOP
from ckdiff.errors import CkdiffError
from ckdiff.options import Option
from ckdiff.report.formats import FORMATS
from ckdiff.report.words.sections import SECTIONS, sections_of

if TYPE_CHECKING:
    from ckdiff.report.schema.report import Report

ALONE = ", ".join(name for name, row in FORMATS.items() if row.carries != "all")
"""The formats that can carry one section."""


SECTION = Option("--section", f"{', '.join(SECTIONS)}: only that part, as {ALONE}.", known=SECTIONS)

BESIDE = Option("--beside", "OpenUnlearning's *_EVAL.json: its figures beside the report's, as table or json.")


def show(
    report: Annotated[Path, REPORT],
    output_format: Annotated[str, FORMAT] = TABLE,
    top: Annotated[int, TOP] = 10,
    section: Annotated[str | None, SECTION] = None,
    show_questions: Annotated[int, SHOW_QUESTIONS] = 0,
    beside: Annotated[Path | None, BESIDE] = None,
    no_answers: Annotated[bool, NO_ANSWERS] = False,
) -> None:
    """Show a report again, as it was printed or in another format."""
    from ckdiff.report.hdf5.file import read_any
    from ckdiff.report.schema.campaign import Campaign

    found = read_any(report)
    if no_answers:
        from ckdiff.report.words.withheld import WITHHELD, withhold

        found = withhold(found)
        remark(WITHHELD, quiet=False)
    if isinstance(found, Campaign):
        if section is not None or beside is not None:
            raise CkdiffError(f"{report}: holds a campaign, which has no sections; leave --section and --beside away")
        present(found, output_format)
        return
    if beside is not None:
        _show_beside(found, beside, output_format)
        return
    there = sections_of(found)
    if section is not None and section not in there:
        raise CkdiffError(f"{report}: holds no {section}; `ckdiff {SECTIONS[section].command}` puts one in")
    if section is not None and FORMATS[output_format].carries == "all":
        raise CkdiffError(f"--section: {output_format} carries all of a report; leave it out, or take {ALONE}")
    if FORMATS[output_format].carries == "one" and section is None and len(there) > 1:
        others = " or ".join(f"--section {name}" for name in there[1:])
        remark(f"one table only: {others} for the other{'s' if len(there) > 2 else ''}", quiet=False)
    present(found, output_format, top, section, show_questions, place=report, typed=type_recorded(found))


def _show_beside(found: Report, place: Path, output_format: str) -> None:
    """The figures of a file of OpenUnlearning's evaluator beside the report's."""
    from ckdiff.report.exports.evaluation import compare_evaluation, read_evaluation
    from ckdiff.report.terminal.evaluation import table_of

    if output_format not in (TABLE, "json"):
        raise CkdiffError(f"--beside: is shown as table or json, not as {output_format}")
    compared = compare_evaluation(found, read_evaluation(place))
    if output_format == TABLE:
        output(table_of(str(place), [(one.metric, one.figures) for one in compared]))
        return
    write_json([
        {"metric": one.metric} | {name: value if math.isfinite(value) else None for name, value in one.named.items()}
        for one in compared
    ])  # fmt: skip
