"""The parts of a page: a row each, with the template that shows it and the values that it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
    """

    place: int
    anchor: str
    name: str
    template: str
    show: Callable[[Any], Mapping[str, object] | None]


def cut(content: object, limit: int = CELL_LENGTH) -> str:
    """A text from a file that may be long, printable, with its middle left out."""
    return shorten(printable(content), limit)
