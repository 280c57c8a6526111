"""HTML that cannot forget to escape: `tag("p", text_from_anywhere)`.

A plain string is always content: what does not print becomes an escape, and what HTML would read as its own is escaped.
Only `Safe` strings are markup. They are made here from each other, in `svg` from numbers, in `document` of the page's
own style and script, and nowhere else.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from ckdiff.report.words.numbers import counted
from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

VOID = frozenset({"meta", "link", "br", "hr"})
"""Elements without content, which have no end tag."""
CELL_LENGTH = 400
"""Characters of one text from a file in a table; the middle of longer ones is left out."""


class Safe(str):
    """Markup that is ready to stand in a page."""

    __slots__ = ()


Child = str | None
Attribute = str | int | bool | None


def escaped(content: str) -> Safe:
    r"""A text as content: what does not print as an escape, markup characters as entities.

    >>> escaped("<b>\u202e&")
    '&lt;b&gt;\\u202e&amp;'
    """
    return content if isinstance(content, Safe) else Safe(html.escape(printable(content)))


def joined(*children: Child, by: str = "") -> Safe:
    """Pieces one after another, with a constant text between them; None is left out."""
    return Safe(by.join(escaped(child) for child in children if child is not None))


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Safe:
    """One element.

    Args:
        name: of the element, a constant of the program.
        children: contents; plain strings are escaped.
        attributes: `class_` is `class`, `aria_label` is `aria-label`; True is an attribute without value, None and
            False are none at all.

    >>> tag("a", "<", class_="x", aria_label='"', hidden=True)
    '<a class="x" aria-label="&quot;" hidden>&lt;</a>'
    """
    start = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    return Safe(start if name in VOID else f"{start}{joined(*children)}</{name}>")


def _attribute(key: str, value: Attribute) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escaped(str(value))}"'


def cut(content: object, limit: int = CELL_LENGTH) -> str:
    """A text from a file that may be long, printable, with its middle left out."""
    return shorten(printable(content), limit)


def paragraph(*children: Child, class_: str | None = None) -> Safe:
    """A paragraph."""
    return tag("p", *children, class_=class_)


def items(lines: Iterable[str], class_: str | None = None) -> Safe:
    """A list with one item a line; nothing where there are no lines."""
    rows = [tag("li", line if isinstance(line, Safe) else cut(line, 2 * CELL_LENGTH)) for line in lines]
    return tag("ul", *rows, class_=class_) if rows else Safe()


def facts(rows: Iterable[tuple[str, str]]) -> Safe:
    """Names and what they are, as a description list."""
    pairs = [joined(tag("dt", name), tag("dd", value)) for name, value in rows]
    return tag("dl", *pairs) if pairs else Safe()


def folded(summary: str, *children: Child, open_: bool = False) -> Safe:
    """What a reader opens when it is wanted; it needs no script."""
    return tag("details", tag("summary", summary), *children, open=open_)


def table(
    caption: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    words: Sequence[int] = (0,),
    folds: bool = True,
    said: bool = True,
) -> Safe:
    """A table that scrolls by itself where the screen is narrow.

    Args:
        caption: what the table shows; it is also the name of the scrolling region.
        heads: a heading a column.
        rows: cells; the first of each row is its heading.
        words: columns that hold words and not figures.
        folds: texts in cells may break into lines.
        said: the caption is seen; not where a heading says the same.
    """
    head = tag("tr", *(tag("th", name, scope="col", class_=_kind(words, place)) for place, name in enumerate(heads)))
    body = tag("tbody", *(_row(cells, words) for cells in rows))
    title = tag("caption", caption) if said else None
    name = None if said else caption
    inside = tag("table", title, tag("thead", head), body, class_=None if folds else "tight", aria_label=name)
    return tag("div", inside, class_="scroll", role="region", tabindex=0, aria_label=caption)


def _row(cells: Sequence[str], words: Sequence[int]) -> Safe:
    first = tag("th", cells[0], scope="row")
    return tag("tr", first, *(tag("td", cell, class_=_kind(words, n)) for n, cell in enumerate(cells[1:], 1)))


def _kind(words: Sequence[int], place: int) -> str | None:
    return "w" if place in words else None


def left_out(count: int, noun: str) -> Safe:
    """A sentence that says how much of a list is not on the page; nothing where all of it is."""
    if count <= 0:
        return Safe()
    return paragraph(f"{counted(count, noun)} more: in the report, not on this page.", class_="muted")
