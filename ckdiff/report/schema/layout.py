"""Where each field of a record stands in a file, said once, beside its type: `fields_of(record class)` is that as data.

    model_type: str                      texts, whole numbers, yes or no, mappings of texts: an attribute of the group
    perplexity_base: float               a column of the table `summary`, which has one row
    top1: PerLayer                       an array, on the axes that its type names
    grid: Grid                           a group
    neurons: Mapping[str, NeuronGrid]    a group, with a group for each name
    krs: Curve                           a part (a record that has `ENDS`): its fields stand beside those of the holder
    notes: Annotated[tuple[str, ...], Rows("note")]    anywhere else: a mark says where

So a new field is one line of its record, and a new section of a report one field of `Report`. HDF5, JSON, tables and
`ckdiff verify` walk over the same fields. A field that older files lack has a default, or may be None.
"""

import functools
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from ckdiff.shapes import Axes


class Rows(NamedTuple):
    """A group with one row a record (or text, or whole number) on an axis of its own.

    What a record cannot hold in a row (arrays, other records) has a group inside, under the number of the row; a table
    of such records is left out where it is empty.

    Attributes:
        axis: name of the axis.
        key: the field that labels it ("text": the texts do); without one, rows are numbered.
        inside: the columns stand in the group of the record that holds the rows.
        shared: the groups beside this one have arrays on the same axis.
    """

    axis: str
    key: str = ""
    inside: bool = False
    shared: bool = False


class Row(NamedTuple):
    """One record as a table of one row; or one text, of any length."""

    axis: str


class Ragged(NamedTuple):
    """A list of each row, as a table of rows x the longest list, with its length as a column."""

    axis: str


class Scale(NamedTuple):
    """The labels of an axis of the group: names, or whole numbers."""

    axis: str


class Shared(NamedTuple):
    """Names of an axis of groups beside this record; read from the one called `within`."""

    axis: str
    within: str


class Tree(NamedTuple):
    """A group a record, inside groups that its first fields name; `inside` the group of the record that holds them."""

    path: tuple[str, ...]
    inside: bool = False


class Named(NamedTuple):
    """A group a record under its name, which is one of those that are known, beside the other groups of the holder."""

    known: tuple[str, ...]


class Merged(NamedTuple):
    """A record whose fields stand among those of the record that holds it."""


class Places(NamedTuple):
    """Records as arrays on the axes that two of their fields name; `order` says which place has which record.

    Attributes:
        axes: the two fields.
        order: what that array is, in words.
        asked: with an array that says which places have a record.
    """

    axes: tuple[str, str]
    order: str
    asked: bool = False


class Spread(NamedTuple):
    """Records of a name and arrays, each array under the name and an end of its own, in one group.

    Attributes:
        known: names that there can be.
        ends: of each field that is an array.
    """

    known: tuple[str, ...]
    ends: Mapping[str, str]


class Stacks(NamedTuple):
    """Records of a `Tree` that differ in one more field: those of one path in one group, on an axis of that name."""

    path: tuple[str, ...]
    axis: str


class Attribute(NamedTuple):
    """An attribute of the group."""


class Figure(NamedTuple):
    """A column of the group's one-row table `summary`."""


class Group(NamedTuple):
    """A group of its own."""


class Groups(NamedTuple):
    """A group with a group for each name."""


Place = (
    Rows | Row | Ragged | Scale | Shared | Tree | Named | Merged | Places | Spread | Stacks
    | Attribute | Figure | Group | Groups | Axes
)  # fmt: skip


class Joined(NamedTuple):
    """Whole numbers as one text, joined by this."""

    by: str


class As(NamedTuple):
    """The name in the file, where it is not the field's own."""

    name: str


class Says(NamedTuple):
    """What the file says about the values, in words."""

    comment: str


class Rank(NamedTuple):
    """Files have fields of a higher rank behind all others; of one rank, in the order of the record."""

    rank: int


class Within(NamedTuple):
    """The least and the greatest value that there can be, both included; NaN is none of them, and allowed."""

    low: float
    high: float


Share = Annotated[float, Within(0, 1)]


class OneOf(NamedTuple):
    """The texts that there are; a `Literal` needs no such mark."""

    known: tuple[str, ...]


Shape = Annotated[tuple[int, ...], Joined("x"), Says("sizes joined by x; empty: a scalar")]


Ids = Annotated[tuple[int, ...], Joined(" "), Says("token ids joined by spaces")]


class Field(NamedTuple):
    """One field of a record, or of a part of it.

    Attributes:
        holder: class of the record.
        path: names of attributes that lead to its value.
        name: in files.
        type: without None and without marks; of many records or texts, that of one.
        optional: may be None.
        place: where it stands.
        default: `MISSING` where it has none.
        marks: `Joined`, `Says`, ..., by their type.
    """

    holder: type
    path: tuple[str, ...]
    name: str
    type: Any
    optional: bool
    place: Any
    default: Any
    marks: Mapping[type, Any]

    def of(self, record: Any) -> Any:
        """The value of a record."""
        return functools.reduce(getattr, self.path, record)

    @property
    def required(self) -> bool:
        """Without it a file is damaged."""
        return not self.optional and self.default is MISSING

    @property
    def comment(self) -> str:
        """What the file says about it, or ""."""
        return str(self.marks[Says].comment) if Says in self.marks else ""

    @property
    def known(self) -> tuple[str, ...]:
        """The texts that it can be; empty for any."""
        return get_args(self.type) if get_origin(self.type) is Literal else getattr(self.marks.get(OneOf), "known", ())

    @property
    def dtype(self) -> Any:
        """Of an array."""
        return get_args(get_args(self.type)[1])[0]


def fields_of(record: type) -> tuple[Field, ...]:
    """The fields of a record class in their order, those of a part in the place of the part."""
    return _fields_of(record)[0]


def stored_fields(record: type) -> tuple[Field, ...]:
    """The same in the order of files."""
    return _fields_of(record)[1]


@functools.cache
def _fields_of(record: type) -> tuple[tuple[Field, ...], tuple[Field, ...]]:
    found: list[Field] = []
    for one in fields(record):
        default = one.default if one.default_factory is MISSING else one.default_factory()
        kind, optional, marks = _unwrapped(one.type)
        if hasattr(kind, "ENDS"):
            for part in fields_of(kind):
                name, place = part_name(kind, one.name, part.name), marks.get(Axes, part.place)
                value = part.of(default) if isinstance(default, kind) else part.default
                path = (one.name, *part.path)
                found.append(part._replace(holder=record, path=path, name=name, place=place, default=value))
        else:
            name = marks[As].name if As in marks else one.name
            kind, place = _element(kind, marks), _place(kind, marks)
            found.append(Field(record, (one.name,), name, kind, optional, place, default, marks))
    ranked = sorted(found, key=lambda one: one.marks[Rank].rank if Rank in one.marks else 0)
    return tuple(found), tuple(ranked)


def part_name(part: Any, holder: str, field: str) -> str:
    """The name that a field of a part has in files, where `holder` is the field that holds the part."""
    return field if part.ENDS is None else f"{holder}{part.ENDS[field]}"


def flat(record: Any, whole: type | tuple[type, ...] = ()) -> dict[str, Any]:
    """A record as one flat mapping: the fields of its parts (but for parts of a class in `whole`) beside its own."""
    result: dict[str, Any] = {}
    for one in fields(record):
        value = getattr(record, one.name)
        if hasattr(value, "ENDS") and not isinstance(value, whole):
            result |= {part_name(value, one.name, name): part for name, part in flat(value).items()}
        else:
            result[one.name] = value
    return result


def record_of(kind: type, values: Mapping[tuple[str, ...], Any]) -> Any:
    """The record whose fields, and those of its parts, have these values."""
    own = {path[0]: value for path, value in values.items() if len(path) == 1}
    for name, part in _parts(kind):
        own[name] = record_of(part, {path[1:]: value for path, value in values.items() if path[0] == name})
    return kind(**own)


@functools.cache
def _parts(record: type) -> list[tuple[str, type]]:
    """The parts of a record, each with the name of the field that holds it."""
    kinds = [(one.name, _unwrapped(one.type)[0]) for one in fields(record)]
    return [(name, kind) for name, kind in kinds if hasattr(kind, "ENDS")]


def _unwrapped(kind: Any) -> tuple[Any, bool, dict[type, Any]]:
    """A type without marks and None, whether it can be None, and its marks: of two of one kind the outer one."""
    optional, marks = False, dict[type, Any]()
    while True:
        if get_origin(kind) is Annotated:
            kind, *more = get_args(kind)
            marks = {type(mark): mark for mark in more} | marks
        elif get_origin(kind) in (Union, UnionType) and NoneType in get_args(kind):
            (kind,), optional = [one for one in get_args(kind) if one is not NoneType], True
        else:
            return kind, optional, marks


def _element(kind: Any, marks: Mapping[type, Any]) -> Any:
    """Of many the type of one."""
    if get_origin(kind) is tuple and Joined not in marks:
        return get_args(kind)[0]
    return get_args(kind)[1] if _is_grouped(kind) else kind


def _is_grouped(kind: Any) -> bool:
    return get_origin(kind) is Mapping and is_dataclass(get_args(kind)[1])


def _place(kind: Any, marks: Mapping[type, Any]) -> Any:
    given = [mark for mark in marks.values() if isinstance(mark, get_args(Place))]
    if given:
        return given[0]
    if is_dataclass(kind):
        return Group()
    if _is_grouped(kind):
        return Groups()
    if kind in (str, int, bool) or get_origin(kind) in (Literal, Mapping) or Joined in marks:
        return Attribute()
    if kind is float:
        return Figure()
    raise TypeError(f"{kind}: no place in a file; mark its field, or give an array's type its axes")
