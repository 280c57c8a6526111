"""The report as an HDF5 file: `write_report(report, path)`, `read_report(path)`. Only `loading` imports h5py beside it.

The report of a campaign is a file of the same kind: `write_campaign`, `read_campaign`; `read_any` takes either.

A report becomes a tree of groups with plain NumPy arrays on named dimensions, and the tree becomes a file:

    Report, Campaign  <->  Node (attributes, arrays, groups)  <->  HDF5

so that a new section of the report is a field of a record, without a call to h5py. Every group has
its own dimension scales, so that `xarray.open_dataset(path, group="compare/grid")` works with h5netcdf and netCDF4.

Behind the end of the HDF5 data stands one line, `SEAL`, with the sha256 of everything before it. HDF5 does not look
there. It is checked before HDF5 sees the file. Anybody can write one, so that the file is read in a process of its own
(`apart`), where what it holds can do no harm.
"""

from __future__ import annotations

import functools
import hashlib
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.errors import ReportError
from ckdiff.files import replace_file, unwritable
from ckdiff.report.hdf5.apart import load_apart
from ckdiff.report.hdf5.columns import Array, Node, encoded
from ckdiff.report.hdf5.loading import MAX_ATTRIBUTE
from ckdiff.report.hdf5.report import from_tree, to_tree
from ckdiff.report.schema.campaign import Campaign
from ckdiff.report.schema.report import Report
from ckdiff.report.words.numbers import count_of
from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from ckdiff.shapes import AnyArray


CHUNK = 1 << 16
"""Bytes that a chunk of an array with three axes may have, if one row has no more."""


GZIP = 4
"""How hard gzip tries, of 9."""


DAMAGE = (OSError, KeyError, ValueError, RuntimeError, TypeError, OverflowError, AttributeError, MemoryError)
"""What reading a damaged file raises."""


SEAL = b"\nckdiff sha256 %s\n"
"""The last line of a report file; its length is fixed."""


SEAL_LENGTH = len(SEAL % bytes(64))


def write_report(report: Report, path: str | Path) -> None:
    """Write a report, all of it or nothing; the same report gives the same bytes.

    The file is written beside the target, synced and moved over it. Whatever happens, an older report there is either
    whole or replaced.

    Raises:
        ReportError: the disk is full, or the place cannot be written to.
    """
    _write(to_tree(report), path)


def write_campaign(campaign: Campaign, path: str | Path) -> None:
    """Write the report of a campaign, in the same way.

    Raises:
        ReportError: the disk is full, or the place cannot be written to; or the records do not fit together.
    """
    _write(to_tree(campaign), path)


def read_report(path: str | Path) -> Report:
    """Read a report about one pair.

    Raises:
        ReportError: there is none, it is damaged or not ckdiff's, a newer ckdiff wrote it, or it is a campaign's.
    """
    found = read_any(path)
    if isinstance(found, Report):
        return found
    raise ReportError(
        f"{printable(path)}: holds a campaign of {count_of(len(found.pairs), 'pair')}; `ckdiff show` shows it, and each"
        " pair's own reports are under jobs/ of its results directory"
    )


def read_campaign(path: str | Path) -> Campaign:
    """Read the report of a campaign.

    Raises:
        ReportError: there is none, it is damaged or not ckdiff's, a newer ckdiff wrote it, or it is about one pair.
    """
    found = read_any(path)
    if isinstance(found, Campaign):
        return found
    raise ReportError(
        f"{printable(path)}: is the report of one pair, and none of a campaign; give what `ckdiff gather` wrote"
    )


def read_any(path: str | Path) -> Report | Campaign:
    """Read a report, of one pair or of a campaign.

    Raises:
        ReportError: there is none, it is damaged or not ckdiff's, or a newer ckdiff wrote it.
    """
    name, path = printable(path), Path(path)
    seal = check_sealed(path)
    try:
        return _read(_Sealed(seal, path, name))
    except DAMAGE as error:
        reason = shorten(printable(error), 100)
        raise ReportError(
            f"{name}: damaged or truncated ({reason}); restore a copy or run the comparison again"
        ) from error


@dataclass(frozen=True, slots=True)
class _Sealed:
    """A file whose seal is that of its bytes: two of one seal hold the same, wherever they lie."""

    seal: bytes
    path: Path = field(compare=False)
    name: str = field(compare=False)


@functools.lru_cache(maxsize=1)
def _read(file: _Sealed) -> Report | Campaign:
    """What a file holds: a command that looks at one before its work and behind it reads it once."""
    report: Report | Campaign = from_tree(load_apart(file.path, file.name))
    return report


def check_same_pair(path: Path, base: str, unlearned: str) -> None:
    """Refuse to replace, unasked, a file that is not a report, or a report about another pair.

    Args:
        path: where a report will be written, and something is.
        base: location of the base checkpoint, as a report records it.
        unlearned: the same of the other.

    Raises:
        ReportError: something else is there, and what to do about it.
    """
    try:
        found = read_report(path).provenance
    except ReportError as error:
        raise ReportError(f"{error}; or replace it with --overwrite") from error
    there = found.base.location, found.unlearned.location
    if there != (base, unlearned):
        raise ReportError(
            f"{printable(path)}: is the report of another pair ({' and '.join(map(printable, there))});"
            " use -o FILE, or replace it with --overwrite"
        )


def load_library() -> None:
    """Import what writes a file, while there is time for it."""
    import h5py  # noqa: F401


def _write(root: Node, path: str | Path) -> None:
    image = seal_image(_image(root))
    try:
        replace_file(path, image)
    except OSError as error:
        raise ReportError(f"{printable(path)}: cannot be written: {unwritable(error)}; use -o FILE") from error


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
    scales: dict[str, Any] = {}
    for name in sorted(node.arrays, key=lambda name: node.arrays[name].dimensions != (name,)):
        _write_array(group.id, name, node.arrays[name], scales)
    for name, child in node.groups.items():
        _write_group(group.create_group(name, track_order=True), child)


def _write_array(place: Any, name: str, array: Array, scales: dict[str, Any]) -> None:
    """One dataset; scales come before what lies on them.

    Through the library's own handles: h5py's objects took more than half of the time, for what has one form here.

    Args:
        place: the group's handle.
        name: of the dataset.
        array: what it holds.
        scales: by name those of the group that others lie on, each opened once.
    """
    import h5py

    values = np.ascontiguousarray(array.values)
    kind = _stored_type(_string_dtype(values.dtype.itemsize) if values.dtype.kind == "S" else values.dtype)
    plan = _layout(_chunks(values) if values.size else None)
    dataset = h5py.h5d.create(place, name.encode(), kind, h5py.h5s.create_simple(values.shape), dcpl=plan)
    if values.size:
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, values, mtype=kind)
    if array.comment:
        _write_attribute(h5py.Dataset(dataset), "comment", array.comment)
    if array.dimensions == (name,):
        h5py.h5ds.set_scale(dataset, name.encode())
        return
    for axis, dimension in enumerate(array.dimensions):
        if dimension not in scales:
            scales[dimension] = h5py.h5d.open(place, dimension.encode())
        h5py.h5ds.attach_scale(dataset, scales[dimension], axis)


@functools.lru_cache(maxsize=256)
def _stored_type(dtype: Any) -> Any:
    """How HDF5 calls a NumPy type."""
    import h5py

    return h5py.h5t.py_create(dtype, logical=True)


@functools.lru_cache(maxsize=256)
def _layout(chunks: tuple[int, ...] | None) -> Any:
    """Packed chunks with checksums, or nothing at all; without the time at which they were made."""
    import h5py

    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if chunks is not None:
        plan.set_chunk(chunks)
        plan.set_shuffle()
        plan.set_deflate(GZIP)
        plan.set_fletcher32()
    plan.set_obj_track_times(False)
    plan.set_attr_creation_order(0)
    return plan


def _chunks(values: AnyArray) -> tuple[int, ...]:
    """A chunk is a row: one layer of neurons is read without the others; of three axes as many as make up `CHUNK`."""
    if values.ndim == 1:
        return values.shape
    rows = max(1, CHUNK * len(values) // values.nbytes) if values.ndim > 2 else 1
    return min(rows, len(values)), *values.shape[1:]


def _write_attribute(holder: Any, name: str, value: str | int) -> None:
    if isinstance(value, str):
        raw = encoded(value)
        if len(raw) > MAX_ATTRIBUTE:
            raise ReportError(f"{printable(name)} has {len(raw)} bytes and a report holds {MAX_ATTRIBUTE}; shorten it")
        holder.attrs.create(name, raw, dtype=_string_dtype(max(1, len(raw))))
    else:
        holder.attrs.create(name, value, dtype="i8")


def _string_dtype(length: int) -> Any:
    import h5py

    return h5py.string_dtype("utf-8", length)


def seal_image(image: bytes) -> bytes:
    """The bytes of a file with its last line, which anybody can write."""
    return image + SEAL % hashlib.sha256(image).hexdigest().encode()


def check_sealed(path: str | Path) -> bytes:
    """Refuse a file that is not, byte for byte, what ckdiff wrote; what it says is not looked at.

    Returns:
        Its seal.

    Raises:
        ReportError: there is none, or it was cut off or changed.
    """
    name, path = printable(path), Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ReportError(f"{name}: is not a file; give a report that ckdiff wrote")
        signature, seal, expected = _seals(path)
    except FileNotFoundError as error:
        command = "ckdiff audit BASE UNLEARNED --questions FILE"
        raise ReportError(f"{name}: there is no such report; `{command}` writes one") from error
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
    return seal


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
