"""Records that hold much and say little: `class Report(Brief)` has a short repr, and is a table in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST = 400
"""Characters of a repr are fewer."""
LONGEST_VALUE = 60
LONGEST_CELL = 200
"""Characters of a value in a repr, and in a notebook."""


class Brief:
    """A record with a repr of less than `LONGEST` characters; what it holds is counted, and never shown in full.

    Attributes:
        GIST: fields that stand for the record within another one's repr; none: its class's name does.
    """

    __slots__ = ()
    GIST: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        """The class with its fields, as many as there is room for."""
        text, end = f"{type(self).__name__}(", ""
        for name, value in _facts(self, LONGEST_VALUE):
            more = f"{end}{name}={value}"
            if len(text) + len(more) + len(", …)") >= LONGEST:
                return f"{text}{end}…)"
            text, end = text + more, ", "
        return f"{text})"

    def _repr_html_(self) -> str:
        """A table of the fields; whatever comes from a file is escaped."""
        rows = (f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in _facts(self, LONGEST_CELL))
        return f"<table><caption>{escape(type(self).__name__)}</caption>{''.join(rows)}</table>"


def _facts(record: Brief, longest: int) -> Iterator[tuple[str, str]]:
    """The fields of a record that hold something, each as a short text."""
    for one in fields(record):  # type: ignore[arg-type]
        value = getattr(record, one.name)
        if not _is_empty(value):
            yield one.name, _text(value, longest)


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, (str, tuple, Mapping)) and not value)


def _text(value: Any, longest: int) -> str:
    if isinstance(value, str):
        return repr(shorten(value, longest))
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, np.ndarray):
        return f"<{'x'.join(map(str, value.shape))}>"
    if isinstance(value, (tuple, Mapping)):
        return f"<{len(value)}>"
    if isinstance(value, Brief):
        return f"<{', '.join(_gist(value, longest)) or type(value).__name__}>"
    if is_dataclass(value):
        parts = ", ".join(_text(getattr(value, one.name), longest) for one in fields(value))
        return shorten(f"{type(value).__name__}({parts})", longest)
    return shorten(printable(value), longest)


def _gist(record: Brief, longest: int) -> Iterator[str]:
    for name in record.GIST:
        value = getattr(record, name)
        if isinstance(value, (tuple, Mapping)):
            yield f"{name}: {len(value)}"
        elif isinstance(value, Brief):
            yield from _gist(value, longest)
        elif value is not None:
            yield _text(value, longest)
