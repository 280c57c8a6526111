"""Records as arrays over names: `write_places`, `write_spread`, `write_stack`, and back; the groups of a campaign.

What each is for says the mark of its name in `schema.layout`. Where not every place of a grid is taken, `order` (or
`measured`) says which are, and in which order the records came; elsewhere there is NaN, 0 or an empty text.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.errors import ReportError
from ckdiff.report.hdf5.columns import COLUMNS, Array, Column, Node, column_of, names_on, scale, values_on
from ckdiff.report.schema.layout import Scale, record_of, stored_fields
from ckdiff.shapes import Axes
from ckdiff.untrusted import printable, strict_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ckdiff.report.schema.layout import Field
    from ckdiff.shapes import AnyArray, Int64

    Names = Mapping[str, Sequence[str]]


FLAG = COLUMNS[bool]


def write_places(field: Field, records: Sequence[Any], names: Names) -> Node:
    """Records on the axes of two of their fields.

    Raises:
        ReportError: two stand at one place, or one at none.
    """
    axes = field.place.axes
    rows = [tuple(getattr(record, axis) for axis in axes) for record in records]
    labels = [names[axis] if axis in names else [*dict.fromkeys(row[n] for row in rows)] for n, axis in enumerate(axes)]
    order = _placed(rows, labels, axes)
    node = Node(arrays={axis: scale(axis, own) for axis, own in zip(axes, labels, strict=True)})
    if field.place.asked:
        node.arrays["asked"] = Array((order >= 0).astype("u1"), axes, FLAG.comment)
    node.arrays["order"] = Array(order, axes, field.place.order)
    for one, column in _columns(field, axes):
        cells = [column.encode(one.of(records[n])) if n >= 0 else column.blank for n in order.ravel().tolist()]
        node.arrays[one.name] = Array(np.array(cells, dtype=column.dtype).reshape(order.shape), axes)
    return node


def read_places(field: Field, node: Node, names: Names) -> tuple[Any, ...]:
    """The records that stand at the places of a grid, in the order in which they were written."""
    axes, columns = field.place.axes, _columns(field, field.place.axes)
    labels = [names[axis] if axis in names else names_on(node, axis) for axis in axes]
    arrays = [values_on(node, one.name, axes, names, column.dtype) for one, column in columns]
    found = []
    for place in _in_order(values_on(node, "order", axes, names, int)):
        values: dict[tuple[str, ...], Any] = {(axis,): labels[n][place[n]] for n, axis in enumerate(axes)}
        values |= {one.path: column.decode(array[place]) for (one, column), array in zip(columns, arrays, strict=True)}
        found.append(record_of(field.type, values))
    return tuple(found)


def _columns(field: Field, without: Sequence[str]) -> list[tuple[Field, Column]]:
    """The fields of the records but for some, as columns."""
    own = [(one, column_of(one)) for one in stored_fields(field.type) if one.path[0] not in without]
    return [(one, column) for one, column in own if column is not None]


def _placed(rows: Sequence[tuple[Any, ...]], labels: Sequence[Sequence[str]], axes: Sequence[str]) -> Int64:
    """Which row stands at each place of a grid, by its number; -1 where none does."""
    order = np.full(tuple(map(len, labels)), -1, dtype="i8")
    found = [{name: place for place, name in enumerate(axis)} for axis in labels]
    for number, row in enumerate(rows):
        place = tuple(axis.get(name, -1) for axis, name in zip(found, row, strict=True))
        if min(place) < 0 or order[place] >= 0:
            where, what = printable(", ".join(row)), " and ".join(axes)
            raise ReportError(f"{where}: a campaign holds a {what} once, and only where its axes have both")
        order[place] = number
    return order


def _in_order(order: AnyArray) -> list[tuple[int, ...]]:
    """The places of a grid that are taken, in the order of their numbers."""
    places = zip(*(axis.tolist() for axis in np.nonzero(order >= 0)), strict=True)
    return sorted(places, key=lambda place: int(order[place]))


def write_spread(field: Field, records: Sequence[Any], names: Names) -> Node:
    """Arrays of records, each under the name of its record and its own end.

    Raises:
        ReportError: two have one name, or one a name that is not known.
    """
    held, known = [record.name for record in records], field.place.known
    if len({*held}) < len(held) or not {*held} <= {*known}:
        raise ReportError(f"{field.name}: a campaign holds each of {', '.join(known)} once, and no other")
    axes = {axis for one, _ in _ends(field) for axis in one.place}
    node = Node({field.name: json.dumps(held)}, {axis: scale(axis, own) for axis, own in names.items() if axis in axes})
    for record in records:
        for one, end in _ends(field):
            node.arrays[record.name + end] = Array(np.asarray(one.of(record), dtype=one.dtype), tuple(one.place))
    return node


def read_spread(field: Field, node: Node, names: Names) -> tuple[Any, ...]:
    """The records whose arrays a group holds."""
    found = []
    for name in _held(field, node.attributes[field.name]):
        values: dict[tuple[str, ...], Any] = {("name",): name}
        for one, end in _ends(field):
            values[one.path] = np.asarray(values_on(node, name + end, one.place, names, one.dtype), dtype=one.dtype)
        found.append(record_of(field.type, values))
    return tuple(found)


def _held(field: Field, text: object) -> list[str]:
    """Names of the records of a group, each once."""
    names = strict_json(str(text))
    if (
        not isinstance(names, list)
        or len({*map(str, names)}) < len(names)
        or not {*map(str, names)} <= {*field.place.known}
    ):
        raise ValueError(f"{field.name} are none of {', '.join(field.place.known)}")
    return [*map(str, names)]


def _ends(field: Field) -> list[tuple[Field, str]]:
    return [(one, field.place.ends[one.name]) for one in stored_fields(field.type) if one.name in field.place.ends]


def write_stack(field: Field, rows: Sequence[tuple[int, Any]]) -> Node:
    """Records that differ in one name, with their numbers, on that axis; arrays on the labels of all of them.

    Raises:
        ReportError: two are of one name, or labels are out of order.
    """
    stacked, (order, records) = field.place.axis, zip(*rows, strict=True)
    own, labels = [getattr(record, stacked) for record in records], _scale_of(field)
    if len({*own}) < len(own) or any((np.diff(labels.of(record)) <= 0).any() for record in records):
        raise ReportError(
            f"{field.name} of a sweep are stored once a {stacked}, with window centres in ascending order"
        )
    axis = labels.place.axis
    union = np.unique(np.concatenate([labels.of(record) for record in records]))
    places = [np.searchsorted(union, labels.of(record)) for record in records]
    shape = len(records), len(union)
    node = Node(arrays={stacked: scale(stacked, own), axis: scale(axis, union)._replace(comment=labels.comment)})
    node.arrays["order"] = Array(np.array(order, dtype="i8"), (stacked,))
    for one, column in _columns(field, (*field.place.path, stacked)):
        node.arrays[one.name] = column.array(map(one.of, records), stacked)
    measured = np.zeros(shape, dtype="u1")
    for row, place in enumerate(places):
        measured[row, place] = 1
    node.arrays["measured"] = Array(measured, (stacked, axis), FLAG.comment)
    for one in _arrays(field):
        values = np.full(shape, np.nan)
        for row, place in enumerate(places):
            values[row, place] = one.of(records[row])
        node.arrays[one.name] = Array(values, (stacked, axis))
    return node


def read_stack(field: Field, path: tuple[str, ...], node: Node) -> Iterator[tuple[int, Any]]:
    """The records of a stack, each with its number."""
    stacked, labels = field.place.axis, _scale_of(field)
    axis = labels.place.axis
    centres, columns = values_on(node, axis, (axis,), {}, int), _columns(field, (*field.place.path, stacked))
    single = [values_on(node, one.name, (stacked,), {}, column.dtype).tolist() for one, column in columns]
    measured = values_on(node, "measured", (stacked, axis), {}, "u1") > 0
    arrays = [(one, values_on(node, one.name, (stacked, axis), {}, one.dtype)) for one in _arrays(field)]
    order = values_on(node, "order", (stacked,), {}, int).tolist()
    for row, name in enumerate(names_on(node, stacked)):
        own = measured[row]
        values: dict[tuple[str, ...], Any] = {(key,): part for key, part in zip(field.place.path, path, strict=True)}
        values |= {(stacked,): name, labels.path: centres[own]}
        values |= {one.path: column.decode(cells[row]) for (one, column), cells in zip(columns, single, strict=True)}
        values |= {one.path: np.asarray(array[row, own], dtype=one.dtype) for one, array in arrays}
        yield int(order[row]), record_of(field.type, values)


def _scale_of(field: Field) -> Field:
    (found,) = (one for one in stored_fields(field.type) if isinstance(one.place, Scale))
    return found


def _arrays(field: Field) -> list[Field]:
    return [one for one in stored_fields(field.type) if isinstance(one.place, Axes)]
