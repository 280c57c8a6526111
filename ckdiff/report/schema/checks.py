"""A record that was read, held against its schema once: `check_record(record)`. Presenters trust what has passed.

Kinds and ranges follow from the types and marks of the fields, so that a new field is held against its own without a
line here. A whole number is at least -1 ("none") unless `Within` says otherwise, and arrays of one record that lie on
one axis are of one length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any, get_origin

import numpy as np

from ckdiff.report.schema.layout import Joined, Rows, Within, fields_of
from ckdiff.shapes import Axes
from ckdiff.untrusted import printable, quoted, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.layout import Field


WHOLE = Within(-1, 2**53)
"""Whole numbers that need no other bounds: none, a place, a count."""


ROUNDING = 1e-6
"""How far beyond its bounds a float may lie: sums are rounded."""


ACROSS = "question"
"""The axis that records inside a record share with its own rows."""


def check_record(record: Any) -> None:
    """Hold a record, and all records in it, against the schema.

    Raises:
        ValueError: a field holds what its type or its marks do not allow; and which.
    """
    sizes: dict[str, int] = {}
    for field in fields_of(type(record)):
        value = field.of(record)
        if value is None:
            if not field.optional:
                raise ValueError(f"{field.name} is missing")
            continue
        for one in _parts(field, value):
            _check_value(field, one)
        if isinstance(field.place, Axes):
            _check_axes(field, value, sizes)
    _check_questions(record)


def _parts(field: Field, value: Any) -> Iterator[Any]:
    """The values that a field holds, each of which is of its type."""
    if isinstance(value, tuple) and Joined not in field.marks:
        yield from value
    elif isinstance(value, Mapping) and get_origin(field.type) is not Mapping:
        yield from value.values()
    else:
        yield value


def _check_value(field: Field, value: Any) -> None:
    if is_dataclass(field.type):
        if type(value) is not field.type:
            raise ValueError(f"{field.name} is another record")
        check_record(value)
    elif isinstance(value, np.ndarray):
        _check_array(field, value)
    elif isinstance(value, Mapping):
        if not all(isinstance(key, str) and isinstance(text, str) for key, text in value.items()):
            raise ValueError(f"{field.name} holds other things than texts")
    else:
        _check_single(field, value)


def _check_single(field: Field, value: Any) -> None:
    """One text, number, or yes or no; or whole numbers that are one text in a file."""
    bounds = field.marks.get(Within)
    if Joined in field.marks:
        for one in value:
            _check_bounds(field, one, bounds or Within(0, 2**53))
    elif field.type is float:
        if type(value) is not float:
            raise ValueError(f"{field.name} is no number")
        if bounds and not np.isnan(value):
            _check_bounds(field, value, Within(bounds.low - ROUNDING, bounds.high + ROUNDING))
    elif field.type is int:
        if type(value) is not int:
            raise ValueError(f"{field.name} is no whole number")
        _check_bounds(field, value, bounds or WHOLE)
    elif field.type is bool:
        if type(value) is not bool:
            raise ValueError(f"{field.name} is neither yes nor no")
    elif type(value) is not str or (field.known and value not in field.known):
        raise ValueError(f"{field.name} is {quoted(shorten(printable(value), 40))}")


def _check_bounds(field: Field, value: float, bounds: Within) -> None:
    if not bounds.low <= value <= bounds.high:
        raise ValueError(f"{field.name} is {value:g}, and lies between {bounds.low:g} and {bounds.high:g}")


def _check_array(field: Field, value: Any) -> None:
    bounds = field.marks.get(Within)
    if value.dtype.kind in "iu" and value.size:
        bounds = bounds or WHOLE
        _check_bounds(field, int(value.min()), bounds)
        _check_bounds(field, int(value.max()), bounds)
    elif bounds and not np.isnan(value).all():
        wide = Within(bounds.low - ROUNDING, bounds.high + ROUNDING)
        _check_bounds(field, float(np.nanmin(value)), wide)
        _check_bounds(field, float(np.nanmax(value)), wide)


def _check_axes(field: Field, value: Any, sizes: dict[str, int]) -> None:
    if np.ndim(value) != len(field.place):
        raise ValueError(f"{field.name} has {np.ndim(value)} axes, not {len(field.place)}")
    for axis, size in zip(field.place, value.shape, strict=True):
        if sizes.setdefault(axis, size) != size:
            raise ValueError(f"{field.name} has {size} of the axis {axis}, and others have {sizes[axis]}")


def _check_questions(record: Any) -> None:
    """Arrays of the records inside have a place for each question of this one."""
    own = [len(field.of(record)) for field in fields_of(type(record)) if _asks(field)]
    for size in _sizes(record) if own else ():
        if size != own[0]:
            raise ValueError(f"an array is about {size} questions, and there are {own[0]}")


def _asks(field: Field) -> bool:
    return isinstance(field.place, Rows) and field.place.axis == ACROSS and is_dataclass(field.type)


def _sizes(record: Any) -> Iterator[int]:
    """How many questions each array of the records in a record is about."""
    for field in fields_of(type(record)):
        value = field.of(record)
        if isinstance(field.place, Axes) and ACROSS in field.place and value is not None:
            yield value.shape[field.place.index(ACROSS)]
        elif is_dataclass(field.type) and not _asks(field) and value is not None:
            for one in _parts(field, value):
                yield from _sizes(one)
