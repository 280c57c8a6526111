"""The axes of a campaign's arrays, and arrays on them: what `campaign_tree` and `campaign_sweeps` are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.errors import ReportError
from ckdiff.report.hdf5.columns import Array, Node, encoded
from ckdiff.report.words.numbers import shape_text
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ckdiff.report.schema.campaign import Campaign
    from ckdiff.shapes import AnyArray, Float64, Int64


def grid(campaign: Campaign) -> Node:
    """A group on the axes of pairs and concepts."""
    return Node(arrays={"pair": pair_scale(campaign), "concept": name_scale("concept", campaign.concepts)})


def pair_scale(campaign: Campaign) -> Array:
    """The names of the pairs, as the scale of their axis."""
    return name_scale("pair", [pair.name for pair in campaign.pairs])


def name_scale(dimension: str, texts: Iterable[str]) -> Array:
    """Names as the scale of the dimension."""
    return Array(np.array([*map(encoded, texts)], dtype="S"), (dimension,))


def floats(values: AnyArray, axes: tuple[str, ...]) -> Array:
    """Figures on some axes."""
    return Array(np.asarray(values, dtype="f8"), axes)


def placed(rows: Sequence[tuple[str, str]], first: Sequence[str], second: Sequence[str], what: str) -> Int64:
    """Which row stands at each place of a grid, by its number; -1 where none does.

    Raises:
        ReportError: two stand at one place, or one at none.
    """
    order = np.full((len(first), len(second)), -1, dtype="i8")
    across, down = ({name: place for place, name in enumerate(axis)} for axis in (first, second))
    for number, (one, other) in enumerate(rows):
        place = across.get(one, -1), down.get(other, -1)
        if min(place) < 0 or order[place] >= 0:
            where = printable(f"{one}, {other}")
            raise ReportError(f"{where}: a campaign holds {what} once, and only where its axes have both")
        order[place] = number
    return order


def in_order(order: AnyArray) -> list[tuple[int, int]]:
    """The places of a grid that are taken, in the order of their numbers."""
    places = zip(*(axis.tolist() for axis in np.nonzero(order >= 0)), strict=True)
    return sorted(places, key=lambda place: int(order[place]))


def read_floats(node: Node, name: str, shape: tuple[int, ...]) -> Float64:
    """Figures of a shape, as `read_shaped` reads them."""
    return np.asarray(read_shaped(node, name, shape), dtype="f8")


def read_shaped(node: Node, name: str, shape: tuple[int, ...]) -> AnyArray:
    """An array that has this shape.

    Raises:
        KeyError, ValueError: there is none, or it has another.
    """
    values = node.arrays[name].values
    if values.shape != shape:
        raise ValueError(f"{name} has the shape {shape_text(values.shape)}, not {shape_text(shape)}")
    return values


def read_names(node: Node, name: str) -> tuple[str, ...]:
    """The names on an axis."""
    return tuple(raw.decode() for raw in node.arrays[name].values.tolist())


def one_of(text: str, known: Sequence[Any]) -> Any:
    """The one of some texts that this is.

    Raises:
        ValueError: it is none of them.
    """
    return known[known.index(text)]
