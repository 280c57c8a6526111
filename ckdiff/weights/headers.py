"""Safetensors headers, validated in full before any data is touched.

A header is untrusted: every number in it is checked against the file's size, and nothing is allocated that the file
itself does not hold. Only the standard library is imported here, so that hashing can start before NumPy is loaded.
"""

from __future__ import annotations

import math
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckdiff.errors import CheckpointError
from ckdiff.untrusted import quoted, strict_json

if TYPE_CHECKING:
    from pathlib import Path


DTYPE_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
}
"""Bytes an element, for every dtype that ckdiff reads."""


MAX_HEADER_BYTES = 100_000_000
"""The format's own limit on the length of a header."""


MOST_TENSORS = 400_000
"""Of one header; quantised mixtures of 384 experts have half of that."""


MAX_AXES = 64
"""NumPy's own limit on the number of axes."""


_LFS = b"version https://git-lfs"


_PICKLE_SUFFIXES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored tensor: its dtype, its shape, and the bytes [begin, end) of the file that hold it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        """Number of elements."""
        return (self.end - self.begin) // DTYPE_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class Shard:
    """One safetensors file whose header has been validated."""

    path: Path
    name: str
    size: int
    entries: dict[str, Entry]


def read_shard(path: Path) -> Shard:
    """Open a safetensors file and validate its whole header.

    Raises:
        CheckpointError: the file is missing, empty, truncated, a pickle, a git-lfs pointer, or its header is not one
            that the format allows; the message names the file, the tensor and the remedy.
    """
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be opened ({error.strerror}); check the path and its rights") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise CheckpointError(f"{path}: not a regular file; name a .safetensors file or a checkpoint directory")
    with os.fdopen(descriptor, "rb") as file:
        raw = _header_bytes(path, file, status.st_size)
    data_start = 8 + len(raw)
    entries = _entries(path, _json_object(path, raw), data_start, status.st_size - data_start)
    return Shard(path, path.name, status.st_size, entries)


def _header_bytes(path: Path, file: Any, size: int) -> bytes:
    start = file.read(32)
    if not start:
        raise CheckpointError(f"{path}: empty file; download it again")
    if start.startswith(_LFS):
        raise CheckpointError(f"{path}: a git-lfs pointer, not the weights; run `git lfs pull` in its repository")
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04")) and path.suffix in _PICKLE_SUFFIXES:
        raise CheckpointError(f"{path}: a pickle, which ckdiff never reads; convert it to safetensors")
    if size < 8:
        raise CheckpointError(f"{path}: truncated ({size} bytes, no header length); download it again")
    length = int.from_bytes(start[:8], "little")
    if length > MAX_HEADER_BYTES:
        raise CheckpointError(f"{path}: header length {length} is absurd; this is not a safetensors file")
    if length > size - 8:
        raise CheckpointError(f"{path}: header length {length} lies beyond the file ({size} bytes); download it again")
    file.seek(8)
    raw: bytes = file.read(length)
    if len(raw) != length:
        raise CheckpointError(f"{path}: truncated inside its header; download it again")
    return raw


def _json_object(path: Path, raw: bytes) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        raise CheckpointError(f"{path}: header is not a JSON object; this is not a safetensors file")
    if raw.count(b'"data_offsets"') > MOST_TENSORS:
        raise CheckpointError(f"{path}: more than {MOST_TENSORS} tensors in one header; this is no model")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: header is not UTF-8; this is not a safetensors file") from error
    try:
        header = strict_json(text)
    except ValueError as error:
        raise CheckpointError(f"{path}: header is not JSON ({error}); damaged, download it again") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: header is not a JSON object; the file is damaged, download it again")
    return header


def _entries(path: Path, header: dict[str, Any], data_start: int, data_bytes: int) -> dict[str, Entry]:
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{path}: __metadata__ is not an object of strings; write the file again")
    entries = {name: _entry(path, name, value, data_start) for name, value in header.items()}
    position = data_start
    for entry in sorted(entries.values(), key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != position:
            kind = "overlap the tensor before it" if entry.begin < position else "leave a gap before it"
            raise CheckpointError(f"{path}: tensor {quoted(entry.name)}: data offsets {kind}; write the file again")
        position = entry.end
    if position != data_start + data_bytes:
        what = "truncated" if position > data_start + data_bytes else "longer than its header says"
        raise CheckpointError(
            f"{path}: {what}: tensors end at byte {position}, the file at {data_start + data_bytes}; download it again"
        )
    return entries


def _entry(path: Path, name: str, value: Any, data_start: int) -> Entry:
    where = f"{path}: tensor {quoted(name)}"
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{where}: not exactly dtype, shape and data_offsets; write the file again")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        known = ", ".join(DTYPE_BYTES)
        raise CheckpointError(f"{where}: unknown dtype {quoted(str(dtype))}; known: {known}; convert it to one of them")
    if not _whole_numbers(shape):
        raise CheckpointError(f"{where}: shape is not a list of whole numbers >= 0; write the file again")
    if not _whole_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(f"{where}: data_offsets are not [begin, end]; write the file again")
    # Axes of length 0 do not excuse the others: NumPy multiplies them all.
    if len(shape) > MAX_AXES or math.prod(size for size in shape if size) * DTYPE_BYTES[dtype] >= 2**63:
        raise CheckpointError(f"{where}: shape {_shape_text(shape)} overflows; write the file again")
    count = math.prod(shape)
    if count * DTYPE_BYTES[dtype] != offsets[1] - offsets[0]:
        raise CheckpointError(
            f"{where}: shape {_shape_text(shape)} of {dtype} needs {count * DTYPE_BYTES[dtype]} bytes, its offsets span"
            f" {offsets[1] - offsets[0]}; write the file again"
        )
    return Entry(name, dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _shape_text(shape: list[int]) -> str:
    text = str(shape)
    return text if len(text) <= 80 else text[:76] + " ...]"
