"""The report as an HDF5 file: `write_report(report, path)`, `read_report(path)`. The only importer of h5py.

A report becomes a tree of groups with plain NumPy arrays on named dimensions, and the tree becomes a file:

    Report  <->  Node (attributes, arrays, groups)  <->  HDF5

so that a new section of the report is a pair of functions in `SECTIONS`, without a call to h5py. Every group has its
own dimension scales, so that `xarray.open_dataset(path, group="compare/grid")` works with h5netcdf and netCDF4.

Behind the end of the HDF5 data stands one line, `SEAL`, with the sha256 of everything before it. HDF5 does not look
there. It is checked before HDF5 sees the file, because a flipped bit in its metadata can crash the library.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import stat
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ckdiff.errors import ReportError
from ckdiff.report.schema import (
    FORMAT,
    SCHEMA_VERSION,
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
from ckdiff.report.text import flat, printable, shape_text, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ckdiff.shapes import AnyArray

MAX_EXPANSION = 1100
"""No array is larger than this many times its file (gzip reaches 1032): a damaged size asks for no memory."""
MAX_DEPTH = 8
SEAL = b"\nckdiff sha256 %s\n"
"""The last line of a report file; its length is fixed."""
SEAL_LENGTH = len(SEAL % bytes(64))


# ----------------------------------------------------------------------------------------------- the public calls


def write_report(report: Report, path: str | Path) -> None:
    """Write a report, all of it or nothing; the same report gives the same bytes.

    The file is written beside the target, synced and moved over it. Whatever happens, an older report there is either
    whole or replaced.

    Raises:
        ReportError: the disk is full, or the place cannot be written to.
    """
    image = _sealed(_image(_root(report)))
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.tmp")
    try:
        _write_synced(temporary, image)
        os.replace(temporary, target)
        _sync_directory(target.parent)
    except OSError as error:
        raise ReportError(f"{printable(path)}: cannot be written: {error.strerror or error}; use -o FILE") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_report(path: str | Path) -> Report:
    """Read a report.

    Raises:
        ReportError: there is none, it is damaged or not ckdiff's, or a newer ckdiff wrote it.
    """
    name, path = printable(path), Path(path)
    _check_sealed(path, name)
    try:
        return _report(_load(path, name))
    except (
        OSError,
        KeyError,
        ValueError,
        RuntimeError,
        TypeError,
        OverflowError,
        AttributeError,
        MemoryError,
    ) as error:
        reason = shorten(printable(error), 100)
        raise ReportError(
            f"{name}: damaged or truncated ({reason}); restore a copy or run the comparison again"
        ) from error


def check_writable(path: Path) -> None:
    """Refuse, before any work is done, a place where no report can be written.

    Raises:
        ReportError: the directory is missing or read-only, or something that is no file has this name.
    """
    target, name = Path(os.path.realpath(path)), printable(path)
    if target.is_dir():
        raise ReportError(f"{name}: is a directory; name a file with -o FILE")
    if target.exists() and not target.is_file():
        raise ReportError(f"{name}: is not a regular file; name a file with -o FILE")
    if not target.parent.is_dir():
        raise ReportError(f"{name}: the directory {printable(target.parent)} does not exist; create it, or use -o FILE")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise ReportError(f"{name}: the directory {printable(target.parent)} is not writable; use -o FILE")


# -------------------------------------------------------------------------------------------------- report <-> tree


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


def _bytes(text: str) -> bytes:
    """UTF-8; what UTF-8 or a padded string cannot hold (lone surrogates, NUL) is kept as an escape."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace")


def _parse_shape(text: bytes) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split(b"x")) if text else ()


TEXT = Column("S", _bytes, bytes.decode)
OPTIONAL_TEXT = Column("S", lambda text: _bytes(text or ""), lambda raw: raw.decode() or None, "empty: none")
SHAPE = Column("S", lambda shape: _bytes(shape_text(shape)), _parse_shape, "sizes joined by x; empty: a scalar")
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
    names = np.array([_bytes(name) for name in grid.components], dtype="S")
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


def _root(report: Report) -> Node:
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


def _report(root: Node) -> Report:
    sides = root.groups["provenance"].groups
    sections = {name: read(root.groups[name]) for name, (_, read) in SECTIONS.items() if name in root.groups}
    return Report(
        provenance=Provenance(_read_checkpoint(sides["base"]), _read_checkpoint(sides["unlearned"])),
        versions=json.loads(str(root.attributes["versions"])),
        complete=bool(root.attributes["complete"]),
        schema_version=int(root.attributes["schema_version"]),
        **sections,
    )


# ---------------------------------------------------------------------------------------------------- tree <-> file


def _image(root: Node) -> bytes:
    """The bytes of the file, built in memory: a full disk is then an error of ours, not one inside HDF5."""
    import h5py

    options = {"libver": ("earliest", "v110"), "track_order": True, "driver": "core", "backing_store": False}
    with h5py.File("report", "w", **options) as file:
        _write_group(file, root)
        file.flush()
        return bytes(file.id.get_file_image())


def _write_group(group: Any, node: Node) -> None:
    for name, value in node.attributes.items():
        _write_attribute(group, name, value)
    for name in sorted(node.arrays, key=lambda name: node.arrays[name].dimensions != (name,)):
        _write_array(group, name, node.arrays[name])
    for name, child in node.groups.items():
        _write_group(group.create_group(name, track_order=True), child)


def _write_array(group: Any, name: str, array: Array) -> None:
    """One dataset; scales come before what lies on them."""
    values = array.values
    if values.dtype.kind == "S":
        values = values.astype(_string_dtype(values.dtype.itemsize))
    options: dict[str, Any] = {}
    if values.size:
        # A chunk is a row: one layer of neurons is read without the others.
        chunks = (1, *values.shape[1:]) if values.ndim > 1 else values.shape
        options = {"chunks": chunks, "compression": "gzip", "shuffle": True, "fletcher32": True}
    dataset = group.create_dataset(name, data=values, track_times=False, **options)
    if array.comment:
        _write_attribute(dataset, "comment", array.comment)
    if array.dimensions == (name,):
        dataset.make_scale(name)
        return
    for axis, dimension in enumerate(array.dimensions):
        dataset.dims[axis].attach_scale(group[dimension])


def _write_attribute(holder: Any, name: str, value: str | int) -> None:
    if isinstance(value, str):
        raw = _bytes(value)
        holder.attrs.create(name, raw, dtype=_string_dtype(max(1, len(raw))))
    else:
        holder.attrs.create(name, value, dtype="i8")


def _string_dtype(length: int) -> Any:
    import h5py

    return h5py.string_dtype("utf-8", length)


def _load(path: Path, name: str) -> Node:
    import h5py

    limit = MAX_EXPANSION * path.stat().st_size
    # No lock: a report is replaced, never changed, and some network file systems have none.
    with h5py.File(path, "r", locking=False) as file:
        if _attribute(file.attrs.get("format", "")) != FORMAT:
            raise ReportError(f"{name}: HDF5, but not a ckdiff report; give a file that ckdiff wrote")
        version = int(file.attrs["schema_version"])
        if version > SCHEMA_VERSION:
            known = f"this one reads up to {SCHEMA_VERSION}"
            raise ReportError(f"{name}: written by a newer ckdiff (schema {version}); {known}; upgrade ckdiff")
        return _load_group(file, limit, MAX_DEPTH)


def _load_group(group: Any, limit: int, depth: int) -> Node:
    import h5py

    if depth == 0:
        raise ValueError("groups inside groups without end")
    node = Node({name: _attribute(value) for name, value in group.attrs.items()})
    for name in group:
        item = group[name]
        if isinstance(item, h5py.Dataset):
            if item.nbytes > limit:
                raise ValueError(f"{name} claims {item.nbytes} bytes")
            node.arrays[name] = Array(_plain(item[()]), ())
        else:
            node.groups[name] = _load_group(item, limit, depth - 1)
    return node


def _plain(values: AnyArray) -> AnyArray:
    """Without the marks that h5py leaves on a string dtype."""
    return values.astype(f"S{values.dtype.itemsize}") if values.dtype.kind == "S" else values


def _attribute(value: Any) -> str | int:
    if isinstance(value, bytes):
        return value.decode()
    return value if isinstance(value, str) else int(value)


def _sealed(image: bytes) -> bytes:
    return image + SEAL % hashlib.sha256(image).hexdigest().encode()


def _check_sealed(path: Path, name: str) -> None:
    """Refuse a file that is not, byte for byte, what ckdiff wrote."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ReportError(f"{name}: is not a file; give a report that ckdiff wrote")
        signature, seal, expected = _seals(path)
    except FileNotFoundError as error:
        raise ReportError(f"{name}: there is no such report; `ckdiff compare BASE UNLEARNED` writes one") from error
    except OSError as error:
        raise ReportError(f"{name}: cannot be read: {error.strerror or error}; check its permissions") from error
    if signature != b"\x89HDF\r\n\x1a\n":
        raise ReportError(f"{name}: not an HDF5 file; give a report that ckdiff wrote")
    if not seal.startswith(SEAL[:15]):
        raise ReportError(f"{name}: not a ckdiff report, or cut off: no checksum at its end; give a whole one")
    if seal != expected:
        raise ReportError(
            f"{name}: changed after ckdiff wrote it (checksum); restore a copy or run the comparison again"
        )


def _seals(path: Path) -> tuple[bytes, bytes, bytes]:
    """The first eight bytes, the seal that the file has, and the one that it should have."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        signature = file.read(8)
        left = max(0, path.stat().st_size - SEAL_LENGTH)
        file.seek(0)
        while block := file.read(min(left, 1 << 20)):
            total.update(block)
            left -= len(block)
        return signature, file.read(), SEAL % total.hexdigest().encode()


def _write_synced(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    """Make the new name last; not every file system can, and then the file is still whole."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
