"""The report as a tree of plain arrays, which `hdf5.py` writes and reads: `to_tree(report)`, `from_tree(root)`.

A report becomes groups with attributes and NumPy arrays on named dimensions. A new section of the report is a pair of
functions in `SECTIONS`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ckdiff.errors import ReportError
from ckdiff.report.schema import (
    FORMAT,
    CheckpointRecord,
    Comparison,
    ComponentDrift,
    ConfigChange,
    Drift,
    Grid,
    NeuronGrid,
    Provenance,
    Report,
    ShapeMismatch,
    ShardRecord,
    TensorDrift,
    TensorInfo,
)
from ckdiff.report.text import flat, shape_text

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
TENSORS = Table(
    TensorDrift,
    "tensor",
    "name",
    {
        "name": TEXT,
        "component": TEXT,
        "layer": LAYER,
        "shape": SHAPE,
        "dtype_base": TEXT,
        "dtype_unlearned": TEXT,
        "parameters": COUNT,
        "tied": FLAG,
        **DRIFT,
    },
)
COMPONENTS = Table(
    ComponentDrift,
    "component",
    "component",
    {
        "component": TEXT,
        "tensors": COUNT,
        "parameters": COUNT,
        "cosine_mean": NUMBER,
        "cosine_min": NUMBER,
        "tied": FLAG,
        **DRIFT,
    },
)
ONLY = Table(TensorInfo, "tensor", "name", {"name": TEXT, "component": TEXT, "shape": SHAPE, "dtype": TEXT})
MISMATCHES = Table(
    ShapeMismatch,
    "tensor",
    "name",
    {"name": TEXT, "component": TEXT, "shape_base": SHAPE, "shape_unlearned": SHAPE},
)
CHANGES = Table(
    ConfigChange, "change", "", {"file": TEXT, "key": TEXT, "base": OPTIONAL_TEXT, "unlearned": OPTIONAL_TEXT}
)
SHARDS = Table(ShardRecord, "shard", "name", {"name": TEXT, "bytes": COUNT, "sha256": OPTIONAL_TEXT})
IGNORED = Table(Line, "tensor", "text", {"text": TEXT})
NOTES = Table(Line, "note", "", {"text": TEXT})

COMPARISON_TABLES = {
    "tensors": TENSORS,
    "components": COMPONENTS,
    "only_in_base": ONLY,
    "only_in_unlearned": ONLY,
    "shape_mismatch": MISMATCHES,
    "config_changes": CHANGES,
}
LISTS = {"ignored": IGNORED, "notes": NOTES}
GRID = ("cosine", "one_minus_cosine", "relative_l2", "changed_fraction")
NEURONS = ("one_minus_cosine", "relative_l2")


def _write_table(table: Table, rows: Iterable[Any]) -> Node:
    records = [flat(row) for row in rows]
    node = Node()
    if not table.key:
        node.arrays[table.dimension] = Array(np.arange(len(records), dtype="i8"), (table.dimension,))
    for name, column in table.columns.items():
        values = np.array([column.encode(record[name]) for record in records], dtype=column.dtype)
        stored = table.dimension if name == table.key else name
        node.arrays[stored] = Array(values, (table.dimension,), column.comment)
    return node


def _read_table(table: Table, node: Node | None) -> tuple[Any, ...]:
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


def _write_grid(grid: Grid) -> Node:
    names = np.array([encoded(name) for name in grid.components], dtype="S")
    node = Node(arrays={"component": Array(names, ("component",)), "layer": _scale("layer", grid.layers)})
    for name in GRID:
        node.arrays[name] = Array(np.asarray(getattr(grid, name), dtype="f8"), ("component", "layer"))
    return node


def _read_grid(node: Node) -> Grid:
    components = tuple(name.decode() for name in node.arrays["component"].values.tolist())
    return Grid(components, node.arrays["layer"].values, **{name: node.arrays[name].values for name in GRID})


def _write_neurons(grid: NeuronGrid) -> Node:
    numbers = np.arange(grid.one_minus_cosine.shape[1], dtype="i8")
    node = Node(arrays={"layer": _scale("layer", grid.layers), "neuron": _scale("neuron", numbers)})
    for name in NEURONS:
        node.arrays[name] = Array(np.asarray(getattr(grid, name), dtype="f4"), ("layer", "neuron"))
    return node


def _read_neurons(node: Node) -> NeuronGrid:
    return NeuronGrid(node.arrays["layer"].values, **{name: node.arrays[name].values for name in NEURONS})


def _scale(name: str, values: AnyArray) -> Array:
    return Array(np.asarray(values, dtype="i8"), (name,))


def _write_comparison(found: Comparison) -> Node:
    node = Node({"model_type": found.model_type, "known_architecture": int(found.known_architecture)})
    for name, table in COMPARISON_TABLES.items():
        node.groups[name] = _write_table(table, getattr(found, name))
    for name, table in LISTS.items():
        node.groups[name] = _write_table(table, map(Line, getattr(found, name)))
    node.groups["grid"] = _write_grid(found.grid)
    node.groups["neurons"] = Node(groups={name: _write_neurons(grid) for name, grid in found.neurons.items()})
    return node


def _read_comparison(node: Node) -> Comparison:
    tables = {name: _read_table(table, node.groups.get(name)) for name, table in COMPARISON_TABLES.items()}
    lists = {
        name: tuple(line.text for line in _read_table(table, node.groups.get(name))) for name, table in LISTS.items()
    }
    neurons = node.groups.get("neurons", Node()).groups
    return Comparison(
        model_type=str(node.attributes["model_type"]),
        known_architecture=bool(node.attributes["known_architecture"]),
        grid=_read_grid(node.groups["grid"]),
        neurons={name: _read_neurons(grid) for name, grid in neurons.items()},
        **tables,
        **lists,
    )


SECTIONS: dict[str, tuple[Callable[[Any], Node], Callable[[Node], Any]]] = {
    "compare": (_write_comparison, _read_comparison),
}
"""Field of the report, which is also the name of its group: how it is written and read."""


def _write_checkpoint(record: CheckpointRecord) -> Node:
    node = _write_table(SHARDS, record.shards)
    for name in ("location", "revision", "digest"):
        value = getattr(record, name)
        if value is not None:
            node.attributes[name] = value
    return node


def _read_checkpoint(node: Node) -> CheckpointRecord:
    shards = _read_table(SHARDS, node)
    revision, digest = (
        str(node.attributes[name]) if name in node.attributes else None for name in ("revision", "digest")
    )
    return CheckpointRecord(str(node.attributes["location"]), revision, digest, shards)


def to_tree(report: Report) -> Node:
    """A report as a tree of arrays.

    Raises:
        ReportError: it has a section that no entry of `SECTIONS` writes; nothing is dropped in silence.
    """
    if report.probe is not None and "probe" not in SECTIONS:
        raise ReportError("this version of ckdiff cannot write a probe into a report; use one that can")
    versions = json.dumps(dict(report.versions), sort_keys=True)
    root = Node(
        {
            "format": FORMAT,
            "schema_version": report.schema_version,
            "versions": versions,
            "complete": int(report.complete),
        }
    )
    sides = {side: _write_checkpoint(getattr(report.provenance, side)) for side in ("base", "unlearned")}
    root.groups["provenance"] = Node(groups=sides)
    for name, (write, _) in SECTIONS.items():
        if getattr(report, name) is not None:
            root.groups[name] = write(getattr(report, name))
    return root


def from_tree(root: Node) -> Report:
    """The report that a tree holds.

    Raises:
        KeyError, ValueError, TypeError, AttributeError: it does not hold one.
    """
    sides = root.groups["provenance"].groups
    sections = {name: read(root.groups[name]) for name, (_, read) in SECTIONS.items() if name in root.groups}
    return Report(
        provenance=Provenance(_read_checkpoint(sides["base"]), _read_checkpoint(sides["unlearned"])),
        versions=json.loads(str(root.attributes["versions"])),
        complete=bool(root.attributes["complete"]),
        schema_version=int(root.attributes["schema_version"]),
        **sections,
    )
