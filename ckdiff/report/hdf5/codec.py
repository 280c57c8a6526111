"""Records as groups of a report file and back, whatever the record: `write_record(record)`, `read_record(kind, node)`.

Nothing here knows a section. Where each field of a record stands follows from its type and marks (`schema.layout`), and
`PLACES` has a writer and a reader for each place that there is. `names` are those on axes that several groups share.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, get_origin

import numpy as np

from ckdiff.errors import ReportError
from ckdiff.report.hdf5.columns import COLUMNS, Array, Node, names_on, one_of, scale, values_on
from ckdiff.report.hdf5.grids import read_places, read_spread, read_stack, write_places, write_spread, write_stack
from ckdiff.report.hdf5.tables import nested_fields, read_table, write_table
from ckdiff.report.schema import layout
from ckdiff.report.schema.layout import Field, Rows, fields_of, record_of, stored_fields
from ckdiff.shapes import Axes
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Names: TypeAlias = Mapping[str, Sequence[str]]


Values: TypeAlias = dict[tuple[str, ...], Any]


SUMMARY = "summary"
"""The table of one row with the figures of a group, and its axis."""


RUN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+.-]*")
"""What a direction, mode or variant must look like, because it names a group."""


def write_record(record: Any, names: Names | None = None, fields: Sequence[Field] = ()) -> Node:
    """A record, or some of its fields, as a group.

    Raises:
        ReportError: two of its records have one name, or one has a name that no group can have.
    """
    node = Node()
    _write_fields(node, record, fields or stored_fields(type(record)), names or {})
    return _with_scales(node, names or {})


def read_record(kind: type, node: Node, names: Names | None = None) -> Any:
    """The record of this class that a group holds.

    Raises:
        KeyError, ValueError, TypeError, AttributeError: it holds none.
    """
    return record_of(kind, _read_fields(node, stored_fields(kind), names or {}))


def _write_fields(node: Node, record: Any, fields: Sequence[Field], names: Names) -> None:
    if figures := [field for field in fields if isinstance(field.place, layout.Figure)]:
        node.groups[SUMMARY] = _with_scales(write_table([record], figures, Rows(SUMMARY)), {})
    for field in fields:
        value = field.of(record)
        if value is not None:
            PLACES[type(field.place)].write(node, field, value, names)
        names = {**names, **_shared(field, value)}


def _read_fields(node: Node, fields: Iterable[Field], names: Names) -> Values:
    found: Values = {}
    for field in fields:
        if not field.required and not _is_there(node, field):
            found[field.path] = None if field.default is MISSING else field.default
        else:
            found[field.path] = PLACES[type(field.place)].read(node, field, names)
        names = {**names, **_shared(field, found[field.path])}
    return found


def _shared(field: Field, value: Any) -> Names:
    """The names of an axis that other groups lie on too."""
    match field.place:
        case Rows(axis=axis, key=key, shared=True):
            return {axis: tuple(getattr(row, key) for row in value)}
        case layout.Shared(axis=axis):
            return {axis: value}
    return {}


def _is_there(node: Node, field: Field) -> bool:
    """Whether a group holds a field that it may lack: one without a value, or one that an older schema did not know."""
    match field.place:
        case layout.Attribute():
            return field.name in node.attributes
        case Axes():
            return field.name in node.arrays
        case layout.Figure():
            return SUMMARY in node.groups and field.name in node.groups[SUMMARY].arrays
        case layout.Merged():
            return _is_there(node, stored_fields(field.type)[0])
    return getattr(field.place, "inside", False) or field.name in node.groups


def _with_scales(node: Node, names: Names) -> Node:
    """The group with a scale for each axis: its own, names that are shared, or else numbers; scales come first."""
    arrays = sorted(node.arrays.items(), key=lambda one: one[1].dimensions == (one[0],))
    sizes = {axis: size for _, array in arrays for axis, size in zip(array.dimensions, array.values.shape, strict=True)}
    scales = {
        axis: node.arrays.get(axis) or scale(axis, names[axis] if axis in names else np.arange(size))
        for axis, size in sizes.items()
    }
    node.arrays = {**scales, **{name: array for name, array in node.arrays.items() if name not in scales}}
    return node


# ----------------------------------------------------------------------------------------- attributes, arrays, groups


def _write_nothing(node: Node, field: Field, value: Any, names: Names) -> None:
    """For what other places hold: figures, names that groups share."""


def _write_attribute(node: Node, field: Field, value: Any, names: Names) -> None:
    if isinstance(value, Mapping):
        value = json.dumps(dict(value))
    node.attributes[field.name] = int(value) if isinstance(value, bool) else value


def _read_attribute(node: Node, field: Field, names: Names) -> Any:
    value = node.attributes[field.name]
    if isinstance(value, int) is not (field.type in (int, bool)):
        raise ValueError(f"{field.name} is of another kind")
    if get_origin(field.type) is Mapping:
        return json.loads(str(value))
    if field.type is bool:
        return one_of(value, (False, True))
    return value if field.type is int else one_of(value, field.known)


def _read_figure(node: Node, field: Field, names: Names) -> float:
    (value,) = values_on(node.groups[SUMMARY], field.name, (SUMMARY,), {}, float).tolist()
    return float(value)


def _write_array(node: Node, field: Field, value: Any, names: Names) -> None:
    node.arrays[field.name] = Array(np.asarray(value, dtype=field.dtype), tuple(field.place), field.comment)


def _read_array(node: Node, field: Field, names: Names) -> Any:
    values = values_on(node, field.name, field.place, names, field.dtype)
    with np.errstate(over="raise"):
        try:
            return np.asarray(values, dtype=field.dtype)
        except FloatingPointError as error:
            raise ValueError(f"{field.name} holds a number that is too large") from error


def _write_scale(node: Node, field: Field, value: Any, names: Names) -> None:
    node.arrays[field.place.axis] = scale(field.place.axis, value)._replace(comment=field.comment)


def _read_scale(node: Node, field: Field, names: Names) -> Any:
    axis = field.place.axis
    return names_on(node, axis) if field.type is str else values_on(node, axis, (axis,), {}, int)


def _read_shared(node: Node, field: Field, names: Names) -> Any:
    return names_on(node.groups[field.place.within], field.place.axis)


def _write_group(node: Node, field: Field, value: Any, names: Names) -> None:
    node.groups[field.name] = write_record(value, names)


def _read_group(node: Node, field: Field, names: Names) -> Any:
    return read_record(field.type, node.groups[field.name], names)


def _write_groups(node: Node, field: Field, value: Any, names: Names) -> None:
    node.groups[field.name] = Node(groups={name: write_record(record, names) for name, record in value.items()})


def _read_groups(node: Node, field: Field, names: Names) -> Any:
    return {name: read_record(field.type, one, names) for name, one in node.groups[field.name].groups.items()}


def _write_named(node: Node, field: Field, value: Any, names: Names) -> None:
    known = field.place.known
    for record in value:
        if record.name not in known or record.name in node.groups:
            words = f"a report holds one set of {field.name} of each of the names {' and '.join(known)}"
            raise ReportError(f"{words}; there is no place for another one called '{printable(record.name)}'")
        node.groups[record.name] = write_record(record, names)


def _read_named(node: Node, field: Field, names: Names) -> Any:
    held = [node.groups[name] for name in field.place.known if name in node.groups]
    return tuple(read_record(field.type, one, names) for one in held)


def _write_merged(node: Node, field: Field, value: Any, names: Names) -> None:
    _write_fields(node, value, stored_fields(field.type), names)


def _read_merged(node: Node, field: Field, names: Names) -> Any:
    return read_record(field.type, node, names)


# --------------------------------------------------------------------------------------------------------------- rows


def _write_rows(node: Node, field: Field, value: Any, names: Names) -> None:
    place: Rows = field.place
    if field.type is str:
        made = Node(arrays={place.axis if place.key else "text": COLUMNS[str].array(value, place.axis)})
    elif field.type is int:
        made = Node(arrays={place.axis: scale(place.axis, np.array(value, dtype="i8"))})
    else:
        fields = stored_fields(field.type)
        made, nested = write_table(value, fields, place), nested_fields(fields)
        if nested and not value:
            return
        if nested:
            made.groups |= {str(number): write_record(row, names, nested) for number, row in enumerate(value)}
    if place.inside:
        node.arrays |= made.arrays
        node.groups |= made.groups
    else:
        node.groups[field.name] = _with_scales(made, names)


def _read_rows(node: Node, field: Field, names: Names) -> Any:
    place: Rows = field.place
    source = node if place.inside else node.groups[field.name]
    if field.type is str:
        return names_on(source, place.axis if place.key else "text")
    if field.type is int:
        return tuple(values_on(source, place.axis, (place.axis,), {}, int).tolist())
    fields = stored_fields(field.type)
    nested = nested_fields(fields)
    rows = read_table(source, [one for one in fields if one not in nested], place)
    for number, row in enumerate(rows if nested else ()):
        row |= _read_fields(source.groups[str(number)], nested, names)
    return tuple(record_of(field.type, row) for row in rows)


def _write_row(node: Node, field: Field, value: Any, names: Names) -> None:
    _write_rows(node, field._replace(place=Rows(field.place.axis)), (value,), names)


def _read_row(node: Node, field: Field, names: Names) -> Any:
    (value,) = _read_rows(node, field._replace(place=Rows(field.place.axis)), names)
    return value


# --------------------------------------------------------------------------------------------------- groups in groups


def _write_tree(node: Node, field: Field, value: Any, names: Names) -> None:
    """A group a record; `order` is its place among all, which the tree of names does not keep."""
    path, body = field.place.path, _body(field)
    root = node if field.place.inside else node.groups.setdefault(field.name, Node())
    for order, record in enumerate(value):
        leaf = write_record(record, names, body)
        leaf.attributes["order"] = order
        _put(root, tuple(getattr(record, name) for name in path), leaf, _taken(field))


def _read_tree(node: Node, field: Field, names: Names) -> Any:
    path, body, found = field.place.path, _body(field), []
    for own, leaf in _leaves(node if field.place.inside else node.groups[field.name], len(path), _taken(field)):
        values = _read_fields(leaf, body, names) | {(name,): part for name, part in zip(path, own, strict=True)}
        found.append((int(leaf.attributes["order"]), record_of(field.type, values)))
    return _in_order(found)


def _write_stacks(node: Node, field: Field, value: Any, names: Names) -> None:
    root, stacks = node.groups.setdefault(field.name, Node()), dict[tuple[str, ...], list[tuple[int, Any]]]()
    for order, record in enumerate(value):
        stacks.setdefault(tuple(getattr(record, name) for name in field.place.path), []).append((order, record))
    for path, rows in stacks.items():
        _put(root, path, _with_scales(write_stack(field, rows), names), ())


def _read_stacks(node: Node, field: Field, names: Names) -> Any:
    leaves = _leaves(node.groups[field.name], len(field.place.path))
    return _in_order([row for path, leaf in leaves for row in read_stack(field, path, leaf)])


def _body(field: Field) -> list[Field]:
    """The fields of the records of a tree that do not name their groups."""
    return [one for one in stored_fields(field.type) if one.path[0] not in field.place.path]


def _taken(field: Field) -> Iterable[str]:
    """Names of groups beside which a tree grows."""
    return [one.name for one in fields_of(field.holder)] if field.place.inside else ()


def _in_order(found: list[tuple[int, Any]]) -> tuple[Any, ...]:
    return tuple(record for _, record in sorted(found, key=lambda row: row[0]))


def _put(root: Node, path: tuple[str, ...], leaf: Node, taken: Iterable[str]) -> None:
    for name in path:
        if not RUN_NAME.fullmatch(name) or path[0] in taken:
            raise ReportError(
                f"a run cannot be stored under the name '{printable(name)}'; use letters, digits and +-_."
            )
    for name in path[:-1]:
        root = root.groups.setdefault(name, Node())
    if path[-1] in root.groups:
        raise ReportError(f"two runs are called {'/'.join(path)}; a report holds one of each")
    root.groups[path[-1]] = leaf


def _leaves(
    root: Node, depth: int, taken: Iterable[str] = (), path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Node]]:
    """Every group that lies so deep, after the names that lead to it."""
    if depth == 0:
        yield path, root
        return
    for name, node in root.groups.items():
        if name not in taken:
            yield from _leaves(node, depth - 1, (), (*path, name))


# ------------------------------------------------------------------------------------------- the places that there are


def _write_grid(make: Callable[[Field, Any, Names], Node]) -> Callable[[Node, Field, Any, Names], None]:
    def write(node: Node, field: Field, value: Any, names: Names) -> None:
        node.groups[field.name] = _with_scales(make(field, value, names), names)

    return write


def _read_grid(take: Callable[[Field, Node, Names], Any]) -> Callable[[Node, Field, Names], Any]:
    return lambda node, field, names: take(field, node.groups[field.name], names)


class Codec(NamedTuple):
    """How a field that stands in one kind of place is written into a group, and read from it."""

    write: Callable[[Node, Field, Any, Names], None]
    read: Callable[[Node, Field, Names], Any]


PLACES: dict[type, Codec] = {
    layout.Attribute: Codec(_write_attribute, _read_attribute),
    layout.Figure: Codec(_write_nothing, _read_figure),
    Axes: Codec(_write_array, _read_array),
    layout.Scale: Codec(_write_scale, _read_scale),
    layout.Shared: Codec(_write_nothing, _read_shared),
    layout.Group: Codec(_write_group, _read_group),
    layout.Groups: Codec(_write_groups, _read_groups),
    layout.Named: Codec(_write_named, _read_named),
    layout.Merged: Codec(_write_merged, _read_merged),
    layout.Rows: Codec(_write_rows, _read_rows),
    layout.Row: Codec(_write_row, _read_row),
    layout.Tree: Codec(_write_tree, _read_tree),
    layout.Stacks: Codec(_write_stacks, _read_stacks),
    layout.Places: Codec(_write_grid(write_places), _read_grid(read_places)),
    layout.Spread: Codec(_write_grid(write_spread), _read_grid(read_spread)),
}
