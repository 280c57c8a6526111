"""The group `/compare` of a report, and back."""

from __future__ import annotations

import numpy as np

from ckdiff.report.hdf5.columns import (
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
from ckdiff.report.schema.comparison import (
    Comparison,
    ComponentDrift,
    ConfigChange,
    Grid,
    NeuronGrid,
    ShapeMismatch,
    TensorDrift,
    TensorInfo,
    Uncompared,
)

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


UNCOMPARED = Table(Uncompared, "change", "", {"file": TEXT, "reason": TEXT})


IGNORED = Table(Line, "tensor", "text", {"text": TEXT})


COMPARISON_TABLES = {
    "tensors": TENSORS,
    "components": COMPONENTS,
    "only_in_base": ONLY,
    "only_in_unlearned": ONLY,
    "shape_mismatch": MISMATCHES,
    "config_changes": CHANGES,
    "config_spellings": CHANGES,
    "config_uncompared": UNCOMPARED,
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
