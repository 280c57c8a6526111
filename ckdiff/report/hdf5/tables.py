"""Records of one kind as columns of a table: `write_table(rows, fields, place)`, and back.

A field that no column can hold is left out: `nested_fields` says which these are.
"""

from __future__ import annotations

from dataclasses import MISSING
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.report.hdf5.columns import COLUMNS, Array, Node, column_of, values_on
from ckdiff.report.schema.layout import Ragged

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ckdiff.report.schema.layout import Field, Rows


def nested_fields(fields: Iterable[Field]) -> list[Field]:
    """The fields that no row can hold."""
    return [field for field in fields if column_of(field) is None and not isinstance(field.place, Ragged)]


def write_table(rows: Sequence[Any], fields: Iterable[Field], place: Rows) -> Node:
    """The columns of a table; lists that its rows hold come behind them, their lengths among them."""
    node, ragged = Node(), dict[str, Array]()
    for field in fields:
        if isinstance(field.place, Ragged):
            lists, axis = [field.of(row) for row in rows], field.place.axis
            node.arrays.setdefault(f"{axis}_count", _counts(lists, axis, place.axis))
            ragged[field.name] = _padded(field, lists, place.axis)
        elif column := column_of(field):
            node.arrays[_stored(field, place)] = column.array(map(field.of, rows), place.axis)
    node.arrays |= ragged
    return node


def read_table(node: Node, fields: Iterable[Field], place: Rows) -> list[dict[tuple[str, ...], Any]]:
    """What the rows of a table hold, a field of an older schema's records filled in.

    Raises:
        KeyError, ValueError, TypeError: a column is missing, or is none of these rows.
    """
    columns = {field.path: _read_column(node, field, place) for field in fields}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _stored(field: Field, place: Rows) -> str:
    return place.axis if field.name == place.key else field.name


def _read_column(node: Node, field: Field, place: Rows) -> Sequence[Any]:
    name = _stored(field, place)
    if name not in node.arrays and field.default is not MISSING:
        return [field.default] * len(node.arrays[place.axis].values)
    if isinstance(field.place, Ragged):
        return _read_lists(node, field, place.axis)
    column = column_of(field)
    assert column is not None
    return [*map(column.decode, values_on(node, name, (place.axis,), {}, column.dtype).tolist())]


def _counts(lists: Sequence[Sequence[Any]], axis: str, rows: str) -> Array:
    comment = f"{axis}s of the {rows}; what lies beyond them is empty or NaN"
    return Array(np.array(list(map(len, lists)), dtype="i8"), (rows,), comment)


def _padded(field: Field, lists: Sequence[Sequence[Any]], rows: str) -> Array:
    """Lists as a table that is as wide as the longest of them."""
    column, width = COLUMNS[field.type], max(map(len, lists), default=0)
    cells = [[*map(column.encode, one), *[column.blank] * (width - len(one))] for one in lists]
    return Array(np.array(cells, dtype=column.dtype).reshape(len(lists), width), (rows, field.place.axis))


def _read_lists(node: Node, field: Field, rows: str) -> list[tuple[Any, ...]]:
    column, axis = COLUMNS[field.type], field.place.axis
    counts = values_on(node, f"{axis}_count", (rows,), {}, int).tolist()
    cells = values_on(node, field.name, (rows, axis), {}, column.dtype).tolist()
    return [tuple(map(column.decode, row[:count])) for count, row in zip(counts, cells, strict=True)]
