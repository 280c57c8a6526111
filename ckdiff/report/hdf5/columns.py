"""What a report file is made of: groups of plain NumPy arrays, and the fields of records as columns of such arrays.

Node (attributes, arrays, groups)     one group of the file
Array (values, dimensions)            on axes of the group
column_of(field)                      how the values of one field become a column, and back
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ckdiff.report.schema.layout import Joined
from ckdiff.report.words.numbers import shape_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ckdiff.report.schema.layout import Field
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
    """How one field of a record is stored: a NumPy dtype ("S" for text of the needed length), and there and back.

    Attributes:
        blank: what stands where there is no record.
    """

    dtype: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    blank: Any
    comment: str = ""

    def array(self, values: Iterable[Any], axis: str) -> Array:
        """Values, encoded, on an axis."""
        return Array(np.array([*map(self.encode, values)], dtype=self.dtype), (axis,), self.comment)


def encoded(text: str) -> bytes:
    """UTF-8; what UTF-8 or a padded string cannot hold (lone surrogates, NUL) is kept as an escape."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace")


COLUMNS: dict[Any, Column] = {
    str: Column("S", encoded, bytes.decode, b""),
    int: Column("i8", int, int, 0),
    float: Column("f8", float, float, np.nan),
    bool: Column("u1", int, bool, 0, "1: yes, 0: no"),
}


OPTIONAL: dict[Any, Column] = {
    str: Column("S", lambda text: encoded(text or ""), lambda raw: raw.decode() or None, b"", "empty: none"),
    int: Column("i8", lambda n: -1 if n is None else n, lambda n: None if n < 0 else n, -1, "-1: none"),
}


def column_of(field: Field) -> Column | None:
    """How a field's values become a column; None where no column can hold them."""
    if Joined in field.marks:
        column: Column | None = _joined(field.marks[Joined].by)
    elif field.known:
        column = Column("S", encoded, lambda raw: one_of(raw.decode(), field.known), b"")
    else:
        column = (OPTIONAL if field.optional else COLUMNS).get(field.type)
    return column._replace(comment=field.comment) if column is not None and field.comment else column


def _joined(by: str) -> Column:
    return Column(
        "S",
        lambda numbers: by.join(map(str, numbers)).encode(),
        lambda raw: tuple(map(int, raw.decode().split(by))) if raw else (),
        b"",
    )


def one_of(text: Any, known: Sequence[Any]) -> Any:
    """The one of some texts that this is; of none, the text itself.

    Raises:
        ValueError: there are some, and it is none of them.
    """
    return known[known.index(text)] if known else text


def scale(axis: str, labels: Iterable[str] | AnyArray) -> Array:
    """Names, or whole numbers, as the scale of the axis of that name."""
    if isinstance(labels, np.ndarray):
        return Array(np.asarray(labels, dtype="i8"), (axis,))
    return Array(np.array([*map(encoded, labels)], dtype="S"), (axis,))


KIND_NAMES = {"S": "texts", "i": "whole numbers", "f": "floats", "u": "yes or no"}
"""What arrays of a NumPy kind hold in a report."""


def names_on(node: Node, axis: str) -> tuple[str, ...]:
    """The names that label an axis."""
    return tuple(raw.decode() for raw in values_on(node, axis, (axis,), {}, "S").tolist())


def values_on(node: Node, name: str, axes: Iterable[str], known: Mapping[str, Sequence[str]], dtype: Any) -> AnyArray:
    """An array, which must lie on these axes and be of the kind of a dtype.

    Axes that groups share are known by their names; others are the group's own.

    Raises:
        KeyError, ValueError: there is none, or it has another shape or kind.
    """
    values, shape = node.arrays[name].values, tuple(_size(node, axis, known) for axis in axes)
    if values.shape != shape:
        raise ValueError(f"{name} has the shape {shape_text(values.shape)}, not {shape_text(shape)}")
    kind = np.dtype(dtype).kind
    if values.dtype.kind != kind:
        raise ValueError(f"{name} holds no {KIND_NAMES[kind]}")
    if kind == "u" and values.size and values.max() > 1:
        raise ValueError(f"{name} is neither yes nor no")
    return values


def _size(node: Node, axis: str, known: Mapping[str, Sequence[str]]) -> int:
    if axis in known:
        return len(known[axis])
    (size,) = node.arrays[axis].values.shape
    return int(size)
