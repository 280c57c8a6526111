"""The sections of a report: one table, from which commands, formats and gates take their names.

A new section is a row here, a record in `schema`, and a file of its name in the folder of each format.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from ckdiff.options import USUAL_REPORT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckdiff.report.schema.report import Report


class Section(NamedTuple):
    """A part of a report.

    Attributes:
        name: its field in `Report`; also its group in the HDF5 report, its key in the JSON, and its file in the folder
            of each format.
        command: that puts it in.
        lacking: what a reader must know of a report without it.
        measured: from checkpoints; else derived from sections that were.
        drawn: there are figures of it.
        judged: a verdict rests on it.
    """

    name: str
    command: str
    lacking: str
    measured: bool = True
    drawn: bool = False
    judged: bool = True


SECTIONS: dict[str, Section] = {
    row.name: row
    for row in (
        Section("compare", "compare", "No weights were compared"),
        Section("probe", "probe", "No states were put back", drawn=True),
        Section("behaviour", "behave", "No answers were compared in words", drawn=True),
        Section("attack", "attack", "Nothing tried to bring the answers back", drawn=True),
        Section("depth", "depth", "No model that never knew stands beside it"),
        Section("discovery", "discover", "Nobody looked for what else was lost", drawn=True, judged=False),
        Section("verdict", "audit", "Nothing was judged", measured=False, judged=False),
    )
}

MEASURED = tuple(name for name, row in SECTIONS.items() if row.measured)
"""The sections that hold measurements."""

JUDGED = tuple(name for name, row in SECTIONS.items() if row.judged)
"""The sections that a verdict rests on; it goes when one of these changes."""

DRAWN = tuple(name for name, row in SECTIONS.items() if row.drawn)
"""The sections that have figures."""


class Selection(NamedTuple):
    """The part of a report to say, and how much of it, where a format leaves that open.

    Attributes:
        section: the name of one; None is all of them, or the first where a format carries one at a time.
        top: how many tensors and neurons a list holds.
        questions: how many questions are listed with their answers.
        brief: whether one screen is to say it all; the rest can be read in the report's file.
        place: the report's file, where commands to type next name it.
        typed: what the command was given, ready to type, for commands that measure again (`complete_command`).
    """

    section: str | None = None
    top: int = 10
    questions: int = 0
    brief: bool = False
    place: str = USUAL_REPORT
    typed: Mapping[str, str] = MappingProxyType({})


WHOLE = Selection()


def sections_of(report: Report) -> list[str]:
    """The sections that a report has, in the order of the table."""
    return [name for name in SECTIONS if getattr(report, name) is not None]


def reading_order(report: Report) -> list[str]:
    """The sections that a report has, as they are read: derived ones first. The first of all where it has none."""
    return sorted(sections_of(report) or list(SECTIONS)[:1], key=lambda name: SECTIONS[name].measured)


def file_of(folder: str, name: str) -> Any:
    """The module of a section, or of a campaign, in a format's folder."""
    return import_module(f"ckdiff.report.{folder}.{name}")
