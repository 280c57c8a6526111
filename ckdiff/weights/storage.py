"""Stored bytes as arrays: mapped, decoded, and given back to the system."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.errors import CheckpointError
from ckdiff.untrusted import quoted
from ckdiff.weights.headers import DTYPE_BYTES
from ckdiff.weights.pages import forget_pages, map_file, read_ahead

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from ckdiff.shapes import AnyArray, Float32, Float64
    from ckdiff.weights.checkpoint import Checkpoint, Derived
    from ckdiff.weights.splits import Cut

RAW_DTYPE = {
    "BOOL": "u1",
    "U8": "u1",
    "I8": "i1",
    "F8_E4M3": "u1",
    "F8_E5M2": "u1",
    "F8_E8M0": "u1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<u2",
    "BF16": "<u2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
}
"""The NumPy dtype in which stored words are mapped; small floats are mapped as whole numbers and decoded by block."""


class Rows:
    """A derived tensor that looks like an array of float32; every slice of its rows is computed when it is taken."""

    dtype = np.dtype(np.float32)

    def __init__(self, derived: Derived) -> None:
        self.shape, self.ndim, self.size = derived.shape, len(derived.shape), int(np.prod(derived.shape))
        self._derived = derived

    def __getitem__(self, rows: slice) -> AnyArray:
        start, stop, _ = rows.indices(self.shape[0])
        return self._derived.rows(start, max(start, stop))

    def cut(self, cut: Cut) -> AnyArray:
        """A piece, of which no more is computed than the rows in which it lies."""
        whole = cut.reshape == self.shape
        first = cut.index[0] if whole and cut.index else slice(None)
        if isinstance(first, int):
            part: AnyArray = self[first : first + 1][(0, *cut.index[1:])]
        elif isinstance(first, slice) and first.step is None and whole:
            part = self[first][(slice(None), *cut.index[1:])]
        else:
            return cut.view(self._derived.make())
        return part.T if cut.transposed else part


class Mapped:
    """The files of one checkpoint, mapped read-only, and tensors as views into them.

    Use as a context manager; views must not outlive it.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._maps: dict[Path, mmap.mmap] = {}
        self._places: dict[Path, int] = {}
        self._sizes = {shard.path: shard.size for shard in checkpoint.shards}

    def __enter__(self) -> Mapped:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._maps.clear()
        self._places.clear()

    def raw(self, name: str) -> AnyArray:
        """The stored words of a tensor in its stored shape (see `RAW_DTYPE`); float32 when it is derived."""
        if name in self.checkpoint.derived:
            return self.checkpoint.derived[name].make()
        shard, entry = self.checkpoint.stored[name]
        if entry.begin == entry.end:
            return np.empty(entry.shape, RAW_DTYPE[entry.dtype])
        if shard.path not in self._maps:
            self._maps[shard.path] = map_file(shard.path, shard.size)
            self._places[shard.path] = _address(np.frombuffer(self._maps[shard.path], np.uint8))
        count = (entry.end - entry.begin) // DTYPE_BYTES[entry.dtype]
        flat = np.frombuffer(self._maps[shard.path], RAW_DTYPE[entry.dtype], count, entry.begin)
        return flat.reshape(entry.shape)

    def array(self, name: str) -> AnyArray | Rows:
        """As `raw`, but a derived tensor of several rows is computed in the parts in which it is looked at."""
        derived = self.checkpoint.derived.get(name)
        return self.raw(name) if derived is None or len(derived.shape) < 2 else Rows(derived)

    def need(self, array: AnyArray) -> None:
        """Have the system read ahead what an array of stored words lies in; nothing for any other array."""
        for mapped, begin, end in self._ranges(array):
            read_ahead(mapped, begin, end)

    def give_back(self, array: AnyArray) -> None:
        """Tell the system that these stored words have been read, so that resident memory stays small."""
        for mapped, begin, end in self._ranges(array):
            forget_pages(mapped, begin, end)

    def _ranges(self, array: AnyArray) -> Iterator[tuple[mmap.mmap, int, int]]:
        if not array.size:
            return
        low, high = np.lib.array_utils.byte_bounds(array)
        # A copy: another thread may map a file meanwhile.
        for path, place in tuple(self._places.items()):
            if place <= low < place + self._sizes[path]:
                yield self._maps[path], low - place, high - place

    def forget(self) -> None:
        """Tell the system that no page is needed any more, so that resident memory stays small."""
        for path, mapped in self._maps.items():
            forget_pages(mapped, 0, self._sizes[path])


def _address(array: AnyArray) -> int:
    return int(array.__array_interface__["data"][0])


@functools.cache
def table_8bit(dtype: str) -> Float32:
    """The value of every byte of an 8-bit float: E4M3 (no infinities, 0x7f is NaN), E5M2 (IEEE), E8M0 (2^(x-127))."""
    code = np.arange(256)
    if dtype == "F8_E8M0":
        values = np.ldexp(1.0, code - 127)
        values[255] = np.nan
        return values.astype(np.float32)
    mantissa_bits, bias = (3, 7) if dtype == "F8_E4M3" else (2, 15)
    exponent, mantissa = (code & 0x7F) >> mantissa_bits, code & ((1 << mantissa_bits) - 1)
    fraction = mantissa / (1 << mantissa_bits)
    values = np.where(exponent == 0, np.ldexp(fraction, 1 - bias), np.ldexp(1 + fraction, exponent - bias))
    if dtype == "F8_E4M3":
        values[(code & 0x7F) == 0x7F] = np.nan
    else:
        values[(exponent == 31) & (mantissa == 0)] = np.inf
        values[(exponent == 31) & (mantissa > 0)] = np.nan
    values = np.where(code >= 128, -values, values)
    result: Float32 = values.astype(np.float32)
    return result


def decode32(raw: AnyArray, dtype: str) -> Float32:
    """Stored words of a 16-bit or 8-bit float as float32, exactly.

    Raises:
        CheckpointError: the dtype does not fit into float32 without rounding.
    """
    if dtype == "BF16":
        wide = raw.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    if dtype == "F16":
        return raw.view(np.float16).astype(np.float32)
    if dtype.startswith("F8"):
        return np.take(table_8bit(dtype), raw)
    raise CheckpointError(f"dtype {quoted(dtype)} is not exact in float32; use decode64")


def decode64(raw: AnyArray, dtype: str) -> Float64:
    """Stored words as float64; exact for everything but 64-bit integers beyond 2^53."""
    if dtype in ("BF16", "F16") or dtype.startswith("F8"):
        return decode32(raw, dtype).astype(np.float64)
    return raw.astype(np.float64)
