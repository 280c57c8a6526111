"""The report as a tree of plain arrays, which `hdf5.py` writes and reads: `to_tree(report)`, `from_tree(root)`.

A report becomes groups with attributes and NumPy arrays on named dimensions. A new section of the report is a pair of
functions in `SECTIONS`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ckdiff.errors import ReportError
from ckdiff.report.probe_text import CURVE_PARTS, flat_run
from ckdiff.report.schema import (
    FORMAT,
    SCORES,
    CheckpointRecord,
    Comparison,
    ComponentDrift,
    ConfigChange,
    Control,
    Curve,
    Drift,
    Grid,
    LossSummary,
    NeuronGrid,
    Probe,
    ProbeRun,
    Provenance,
    QuestionRecord,
    Report,
    ShapeMismatch,
    ShardRecord,
    TensorDrift,
    TensorInfo,
)
from ckdiff.report.text import flat, printable, shape_text

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
IDS = Column(
    "S",
    lambda ids: " ".join(map(str, ids)).encode(),
    lambda raw: tuple(map(int, raw.split())),
    "token ids joined by spaces",
)
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
LOSSES = Table(LossSummary, "summary", "", dict.fromkeys(("mse", "mse_centred", "kl", "top1", "shift_share"), NUMBER))
QUESTIONS = Table(
    QuestionRecord,
    "question",
    "",
    {
        "text": TEXT,
        "answer": TEXT,
        "answer_ids": IDS,
        "prompt_tokens": COUNT,
        **dict.fromkeys(("mse", "mse_centred", "kl", "top1"), NUMBER),
    },
)
CONTROLS = Table(
    Control,
    "control",
    "",
    {
        **dict.fromkeys(("name", "direction", "mode", "variant"), TEXT),
        "layer": LAYER._replace(comment="window centre; -1: not about a single window"),
        "score": TEXT,
        "value": NUMBER,
        "against": NUMBER,
        "bound": NUMBER,
        "kind": TEXT,
        "passed": FLAG,
    },
)

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
PROBE_TABLES = {"questions": QUESTIONS, "controls": CONTROLS}
PROBE_PARTS = ("loss_unlearned", *PROBE_TABLES, "notes")
"""Groups of a probe that are not a direction."""
RUN_ARRAYS = (
    *("first", "last", "krs_mean_of_ratios", "top1"),
    *("loss_mse", "loss_mse_centred", "loss_kl", "top1_questions"),
)
RUN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+.-]*")
"""What a direction, mode or variant must look like, because it names a group."""


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


def _write_probe(found: Probe) -> Node:
    settings = json.dumps(dict(found.settings))
    node = Node({"model_type": found.model_type, "layer_count": found.layer_count, "settings": settings})
    node.groups["loss_unlearned"] = _write_table(LOSSES, [found.loss_unlearned])
    for name, table in PROBE_TABLES.items():
        node.groups[name] = _write_table(table, getattr(found, name))
    node.groups["notes"] = _write_table(NOTES, map(Line, found.notes))
    for order, run in enumerate(found.runs):
        variants = node
        for name in _path(run)[:-1]:
            variants = variants.groups.setdefault(name, Node())
        if run.variant in variants.groups:
            raise ReportError(f"two runs are called {'/'.join(_path(run))}; a report holds one of each")
        variants.groups[run.variant] = _write_run(run, order)
    return node


def _path(run: ProbeRun) -> tuple[str, str, str]:
    """The groups that lead to a run.

    Raises:
        ReportError: a name that no group can have.
    """
    path = run.direction, run.mode, run.variant
    for name in path:
        if not RUN_NAME.fullmatch(name) or path[0] in PROBE_PARTS:
            raise ReportError(
                f"a run cannot be stored under the name '{printable(name)}'; use letters, digits and +-_."
            )
    return path


def _write_run(run: ProbeRun, order: int) -> Node:
    """One run; `order` is its place among all, which the tree of names does not keep."""
    node = Node({"window": run.window, "order": order})
    values = flat_run(run)
    node.arrays["layer"] = _scale("layer", values.pop("layers"))._replace(comment="window centre; -1: the whole model")
    node.arrays["question"] = _scale("question", np.arange(run.loss_mse.shape[1]))
    for name, array in values.items():
        if isinstance(array, np.ndarray):
            kind = "i8" if name in ("first", "last") else "f8"
            node.arrays[name] = Array(array.astype(kind), ("layer", "question")[: array.ndim])
    return node


def _read_probe(node: Node) -> Probe:
    runs = [
        (variant.attributes["order"], _read_run((direction, mode, name), variant))
        for direction, modes in node.groups.items()
        if direction not in PROBE_PARTS
        for mode, variants in modes.groups.items()
        for name, variant in variants.groups.items()
    ]
    tables = {name: _read_table(table, node.groups.get(name)) for name, table in PROBE_TABLES.items()}
    (losses,) = _read_table(LOSSES, node.groups["loss_unlearned"])
    return Probe(
        model_type=str(node.attributes["model_type"]),
        layer_count=int(node.attributes["layer_count"]),
        runs=tuple(run for _, run in sorted(runs, key=lambda pair: pair[0])),
        loss_unlearned=losses,
        settings=json.loads(str(node.attributes["settings"])),
        notes=tuple(line.text for line in _read_table(NOTES, node.groups.get("notes"))),
        **tables,
    )


def _read_run(path: tuple[str, str, str], node: Node) -> ProbeRun:
    arrays = {name: array.values for name, array in node.arrays.items()}
    values: dict[str, Any] = {name: arrays[name] for name in RUN_ARRAYS}
    for score in SCORES:
        values[score] = Curve(**{part: arrays[score + end] for end, part in CURVE_PARTS.items()})
    direction, mode, variant = path
    window = int(node.attributes["window"])
    return ProbeRun(direction, mode, variant, window, arrays["layer"], **values)


SECTIONS: dict[str, tuple[Callable[[Any], Node], Callable[[Node], Any]]] = {
    "compare": (_write_comparison, _read_comparison),
    "probe": (_write_probe, _read_probe),
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
        ReportError: two runs of its probe have one name, or one has a name that no group can have.
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
