"""The report as a tree of plain arrays, which `hdf5.py` writes and reads: `to_tree(report)`, `from_tree(root)`.

A report becomes groups with attributes and NumPy arrays on named dimensions. A new section of the report is a pair of
functions in `SECTIONS`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.report.behaviour_tree import read_behaviour, write_behaviour
from ckdiff.report.columns import (
    COUNT,
    DRIFT,
    FLAG,
    LAYER,
    NOTES,
    NUMBER,
    OPTIONAL_TEXT,
    SHAPE,
    TEXT,
    Array,
    Line,
    Node,
    Table,
    encoded,
    read_table,
    scale,
    write_table,
)
from ckdiff.report.probe_tree import read_probe, write_probe
from ckdiff.report.schema import (
    FORMAT,
    CheckpointRecord,
    Comparison,
    ComponentDrift,
    ConfigChange,
    Grid,
    NeuronGrid,
    Provenance,
    Report,
    ShapeMismatch,
    ShardRecord,
    TensorDrift,
    TensorInfo,
)
from ckdiff.report.verdict_tree import read_verdict, write_verdict

if TYPE_CHECKING:
    from collections.abc import Callable


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


def _write_grid(grid: Grid) -> Node:
    names = np.array([encoded(name) for name in grid.components], dtype="S")
    node = Node(arrays={"component": Array(names, ("component",)), "layer": scale("layer", grid.layers)})
    for name in GRID:
        node.arrays[name] = Array(np.asarray(getattr(grid, name), dtype="f8"), ("component", "layer"))
    return node


def _read_grid(node: Node) -> Grid:
    components = tuple(name.decode() for name in node.arrays["component"].values.tolist())
    return Grid(components, node.arrays["layer"].values, **{name: node.arrays[name].values for name in GRID})


def _write_neurons(grid: NeuronGrid) -> Node:
    numbers = np.arange(grid.one_minus_cosine.shape[1], dtype="i8")
    node = Node(arrays={"layer": scale("layer", grid.layers), "neuron": scale("neuron", numbers)})
    for name in NEURONS:
        node.arrays[name] = Array(np.asarray(getattr(grid, name), dtype="f4"), ("layer", "neuron"))
    return node


def _read_neurons(node: Node) -> NeuronGrid:
    return NeuronGrid(node.arrays["layer"].values, **{name: node.arrays[name].values for name in NEURONS})


def _write_comparison(found: Comparison) -> Node:
    node = Node({"model_type": found.model_type, "known_architecture": int(found.known_architecture)})
    for name, table in COMPARISON_TABLES.items():
        node.groups[name] = write_table(table, getattr(found, name))
    for name, table in LISTS.items():
        node.groups[name] = write_table(table, map(Line, getattr(found, name)))
    node.groups["grid"] = _write_grid(found.grid)
    node.groups["neurons"] = Node(groups={name: _write_neurons(grid) for name, grid in found.neurons.items()})
    return node


def _read_comparison(node: Node) -> Comparison:
    tables = {name: read_table(table, node.groups.get(name)) for name, table in COMPARISON_TABLES.items()}
    lists = {
        name: tuple(line.text for line in read_table(table, node.groups.get(name))) for name, table in LISTS.items()
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
    "probe": (write_probe, read_probe),
    "behaviour": (write_behaviour, read_behaviour),
    "verdict": (write_verdict, read_verdict),
}
"""Field of the report, which is also the name of its group: how it is written and read."""


def _write_checkpoint(record: CheckpointRecord) -> Node:
    node = write_table(SHARDS, record.shards)
    for name in ("location", "revision", "digest"):
        value = getattr(record, name)
        if value is not None:
            node.attributes[name] = value
    return node


def _read_checkpoint(node: Node) -> CheckpointRecord:
    shards = read_table(SHARDS, node)
    revision, digest = (
        str(node.attributes[name]) if name in node.attributes else None for name in ("revision", "digest")
    )
    return CheckpointRecord(str(node.attributes["location"]), revision, digest, shards)


def to_tree(report: Report) -> Node:
    """A report as a tree of arrays.

    Raises:
        ReportError: two runs of its probe, or two of its sets of answers, have one name, or one has a name that no
            group can have.
    """
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
