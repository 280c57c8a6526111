"""Records as columns and groups as plain NumPy arrays: what the sections of a report file are made of.

Node (attributes, arrays, groups)     one group of the file
Table (a record, its columns)         rows of one kind on one dimension: `write_table`, `read_table`
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ckdiff.report.schema.comparison import Drift
from ckdiff.report.words.numbers import flat, shape_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ckdiff.shapes import AnyArray


class Array(NamedTuple):
    """Values with the names of their axes; an array on the dimension of its own name is that dimension's scale."""

    values: AnyArray
    dimensions: tuple[str, ...]
    comment: str = ""


@dataclass(slots=True)
class Node:
    """One group of the file."""

    attributes: dict[str, str | int] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    groups: dict[str, Node] = field(default_factory=dict)


class Column(NamedTuple):
    """How one field of a record is stored: a NumPy dtype ("S" for text of the needed length), and there and back."""

    dtype: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    comment: str = ""


def encoded(text: str) -> bytes:
    """UTF-8; what UTF-8 or a padded string cannot hold (lone surrogates, NUL) is kept as an escape."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace")


def _parse_shape(text: bytes) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split(b"x")) if text else ()


TEXT = Column("S", encoded, bytes.decode)


OPTIONAL_TEXT = Column("S", lambda text: encoded(text or ""), lambda raw: raw.decode() or None, "empty: none")


SHAPE = Column("S", lambda shape: encoded(shape_text(shape)), _parse_shape, "sizes joined by x; empty: a scalar")


COUNT = Column("i8", int, int)


NUMBER = Column("f8", float, float)


FLAG = Column("u1", int, bool, "1: yes, 0: no")


IDS = Column(
    "S",
    lambda ids: " ".join(map(str, ids)).encode(),
    lambda raw: tuple(map(int, raw.split())),
    "token ids joined by spaces",
)


LAYER = Column("i8", lambda n: -1 if n is None else n, lambda n: None if n < 0 else n, "-1: outside the decoder layers")


class Table(NamedTuple):
    """Records of one kind as columns on one dimension, whose scale is the field `key` or, without one, row numbers."""

    record: Callable[..., Any]
    dimension: str
    key: str
    columns: Mapping[str, Column]


@dataclass(frozen=True, slots=True)
class Line:
    """A record that is one string."""

    text: str


DRIFT = {
    name: {"float": NUMBER, "int": COUNT, "bool": FLAG}[str(kind)]
    for name, kind in ((column.name, column.type) for column in fields(Drift))
}


NOTES = Table(Line, "note", "", {"text": TEXT})


def write_table(table: Table, rows: Iterable[Any]) -> Node:
    """Records of one kind as a group of columns."""
    return write_rows(table, map(flat, rows))


def write_rows(table: Table, rows: Iterable[Mapping[str, Any]]) -> Node:
    """The same of mappings that hold at least the columns of the table."""
    records = list(rows)
    node = Node()
    if not table.key:
        node.arrays[table.dimension] = Array(np.arange(len(records), dtype="i8"), (table.dimension,))
    for name, column in table.columns.items():
        values = np.array([column.encode(record[name]) for record in records], dtype=column.dtype)
        stored = table.dimension if name == table.key else name
        node.arrays[stored] = Array(values, (table.dimension,), column.comment)
    return node


def read_table(table: Table, node: Node | None) -> tuple[Any, ...]:
    """The records that a group of columns holds; none where there is no group."""
    if node is None:
        return ()
    columns = []
    for name, column in table.columns.items():
        values = node.arrays[table.dimension if name == table.key else name].values
        columns.append([column.decode(value) for value in values.tolist()])
    names = tuple(table.columns)
    return tuple(_record(table, dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True))


def _record(table: Table, values: dict[str, Any]) -> Any:
    if "identical" in values:
        values["drift"] = Drift(**{name: values.pop(name) for name in DRIFT})
    return table.record(**values)


def scale(name: str, values: AnyArray) -> Array:
    """Whole numbers as the scale of the dimension of their own name."""
    return Array(np.asarray(values, dtype="i8"), (name,))
