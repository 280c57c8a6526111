"""Parts of a report as data frames of pandas, which is imported here alone: `to_dataframe(report, "windows")`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ckdiff.errors import CkdiffError, with_extra
from ckdiff.report.schema.comparison import ComponentDrift
from ckdiff.report.schema.layout import fields_of
from ckdiff.report.words.sections import SECTIONS, file_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ckdiff.report.schema.comparison import Comparison
    from ckdiff.report.schema.report import Report

    Rows = Callable[[Any], Iterable[Sequence[object]]]


class FrameError(CkdiffError):
    """A data frame that cannot be made."""


class Frame(NamedTuple):
    """A data frame.

    Attributes:
        section: that it is of.
        rows: gives its rows; None: they are those of the section's CSV.
    """

    section: str
    rows: Rows | None = None


def component_rows(found: Comparison) -> Iterator[Sequence[object]]:
    """The names of the columns, then every component with its drift."""
    columns = fields_of(ComponentDrift)
    yield [column.name for column in columns]
    for row in found.components:
        yield [column.of(row) for column in columns]


FRAMES: dict[str, Frame] = {
    "components": Frame("compare", component_rows),
    "tensors": Frame("compare"),
    "windows": Frame("probe"),
    "answers": Frame("behaviour"),
    "attacks": Frame("attack"),
    "depth": Frame("depth"),
    "discovery": Frame("discovery"),
    "checks": Frame("verdict"),
}
"""Every data frame by its name."""


def to_dataframe(report: Report, name: str) -> Any:
    """A part of a report as a data frame of pandas, with the columns that its CSV has; NaN: not defined.

    Args:
        report: what it is taken of.
        name: one of `FRAMES`: components, tensors, windows, answers, attacks, depth, discovery, checks.

    Raises:
        CkdiffError: there is no such part, the report does not hold it, or pandas is not installed.
    """
    frame = FRAMES.get(name)
    if frame is None:
        raise FrameError(f"to_dataframe: no {name!r}; there are {', '.join(FRAMES)}")
    found = getattr(report, frame.section)
    if found is None:
        raise FrameError(f"to_dataframe: the report holds no {frame.section}; {_remedy(frame)} puts one in")
    try:
        from pandas import DataFrame
    except ImportError:
        raise FrameError(with_extra("to_dataframe: needs pandas", "pandas")) from None
    rows: Rows = frame.rows or file_of("rows", frame.section).rows
    columns, *values = rows(found)
    return DataFrame(values, columns=list(columns))


def _remedy(frame: Frame) -> str:
    return f"`ckdiff {SECTIONS[frame.section].command}`"
