"""The parts of a page: a row each, with the template that shows it and the values that it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from ckdiff.report.schema.behaviour import ANSWER_SETS
from ckdiff.report.words.cells import write_cells
from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

CELL_LENGTH = 400
"""Characters of one text from a file in a table; the middle of longer ones is left out."""


class Part(NamedTuple):
    """A part of the page.

    Attributes:
        place: parts stand in ascending order of it.
        anchor: its address on the page.
        name: its heading.
        template: file in `templates`.
        show: of a report (or campaign) what the template is given; None where there is nothing to show.
        paper: whether it is printed as well.
    """

    place: int
    anchor: str
    name: str
    template: str
    show: Callable[[Any], Mapping[str, object] | None]
    paper: bool = True


def cut(content: object, limit: int = CELL_LENGTH) -> str:
    """A text from a file that may be long, printable, with its middle left out."""
    return shorten(printable(content), limit)


def question_anchor(name: str, place: int, number: int) -> str:
    """The address on the page of a question: `question-3` is the third about the target, in the order of its file.

    Those of other sets have the set's own name before it, where it is one of ours, or else its place among the sets.

    >>> question_anchor("target", 0, 3), question_anchor("unrelated", 1, 3), question_anchor("a b", 2, 3)
    ('question-3', 'unrelated-question-3', 'set-3-question-3')
    """
    own = name if name in ANSWER_SETS else f"set-{place + 1}"
    return f"{'' if own == ANSWER_SETS[0] else f'{own}-'}question-{number}"


def data_address(rows: Iterable[Sequence[object]]) -> str:
    """Rows as a CSV file that lies in its own address, so that a link to it asks for nothing."""
    return f"data:text/csv;charset=utf-8,{quote(write_cells(rows, ','), safe=',._-')}"
