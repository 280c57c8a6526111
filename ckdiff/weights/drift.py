"""Drift of one piece: how far two stored tensors are from each other, in one pass over their bytes.

Blocks of both tensors are decoded into small buffers and summed there. 16-bit and 8-bit floats are multiplied in
float32, in runs of at most 8192 elements, and everything above that is summed in float64; wider dtypes are float64
throughout. Where float32 could mislead (overflow, underflow, b nearly a multiple of a) the piece is done again in
float64, so that which path was taken shows in no digit that counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.weights.moments import Moments, perpendicular
from ckdiff.weights.storage import decode32, decode64

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.shapes import AnyArray, Float32, Float64

BLOCK = 1 << 18
"""Elements a block: few enough to stay near the processor, enough to make each call of NumPy worth its cost."""
RUN = 8192
"""Elements that are summed in float32 before float64 takes over."""
TINY = 1e-15
"""Below this magnitude float32 squares begin to underflow."""

_COLUMN_LINES = 256
"""Lines that are summed down a column in float32 before float64 takes over."""
_WORD = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_NARROW = {"BF16", "F16", "F8_E4M3", "F8_E5M2"}


@dataclass(frozen=True, slots=True)
class PieceDrift:
    """The sums that one pass over a piece gives.

    Attributes:
        moments: of the whole piece (one entry); NaN where something is not finite.
        neurons: one entry a neuron, or None where the piece has none or is not finite.
        changed: elements whose values differ (two NaNs are equal, so are 0 and -0).
        identical: every value is equal.
    """

    moments: Moments
    neurons: Moments | None
    max_abs_diff: float
    changed: int
    nonfinite_base: int
    nonfinite_unlearned: int
    identical: bool


@dataclass(slots=True)
class _Sums:
    """Running sums of one piece: an entry a line of its 2-D view, or a column where neurons are columns."""

    a2: Float64
    g: Float64
    d2: Float64
    b2: Float64
    r: Float64 | None = None
    largest: float = 0.0
    changed: int = 0
    nonfinite_base: int = 0
    nonfinite_unlearned: int = 0

    @classmethod
    def zeros(cls, count: int) -> _Sums:
        return cls(np.zeros(count), np.zeros(count), np.zeros(count), np.zeros(count))


def drift(
    base: AnyArray, dtype_base: str, unlearned: AnyArray, dtype_unlearned: str, neuron_axis: int | None
) -> PieceDrift:
    """Drift between two pieces of one shape.

    Args:
        base: stored words, any strides, at least 0-d.
        dtype_base: safetensors name of their dtype.
        unlearned: the same of the other checkpoint.
        dtype_unlearned: the same.
        neuron_axis: 0 or 1: rows or columns are neurons; None: no neurons.
    """
    by_column = neuron_axis == 1
    a, b = _matrix(base, neuron_axis), _matrix(unlearned, neuron_axis)
    if a.ndim != b.ndim:
        a, b = _lines(base), _lines(unlearned)
    if dtype_base == dtype_unlearned and _same_bytes(a, b):
        return _identical(a, dtype_base, by_column, neuron_axis)
    if dtype_base == dtype_unlearned and dtype_base in _NARROW:
        with np.errstate(all="ignore"):
            sums = _sums32(a, b, dtype_base, by_column)
        if _trustworthy(sums, base.size):
            return _finish(sums, neuron_axis)
    with np.errstate(all="ignore"):
        sums = _sums64(a, dtype_base, b, dtype_unlearned, by_column)
        if sums.nonfinite_base or sums.nonfinite_unlearned:
            return _not_finite(sums)
        if np.any(perpendicular(sums.a2, sums.g, sums.d2) < 1e-8 * sums.d2):
            sums.r = _residual(a, dtype_base, b, dtype_unlearned, by_column, sums)
    return _finish(sums, neuron_axis)


# ------------------------------------------------------------------------------------------------------- blocks


def _matrix(array: AnyArray, neuron_axis: int | None) -> AnyArray:
    """The elements in the shape in which they are summed: flat where that copies nothing and no neuron needs lines."""
    if neuron_axis is None and isinstance(array, np.ndarray) and array.flags.c_contiguous:
        return array.reshape(-1)
    return _lines(array)


def _lines(array: AnyArray) -> AnyArray:
    return array if array.ndim >= 2 else array.reshape(1, -1)


def _line_count(array: AnyArray) -> int:
    return -(-array.size // RUN) if array.ndim == 1 else int(np.prod(array.shape[:-1], dtype=np.int64))


def _blocks(a: AnyArray, b: AnyArray, most: int = BLOCK) -> Iterator[tuple[int, AnyArray, AnyArray]]:
    """Pairs of 2-D blocks of about BLOCK elements and at most `most` lines, each with the index of its first line.

    A flat array is given as lines of RUN elements, and what is left over as a last, short line.
    """
    if a.ndim == 1:
        whole = a.size - a.size % RUN
        yield from _blocks(a[:whole].reshape(-1, RUN), b[:whole].reshape(-1, RUN), most)
        if whole < a.size:
            yield whole // RUN, a[whole:].reshape(1, -1), b[whole:].reshape(1, -1)
        return
    width = a.shape[-1]
    lines_each = int(np.prod(a.shape[1:-1], dtype=np.int64))
    step = max(1, min(most, BLOCK // max(1, width * lines_each)))
    for start in range(0, a.shape[0], step):
        yield start * lines_each, a[start : start + step].reshape(-1, width), b[start : start + step].reshape(-1, width)


def _same_bytes(a: AnyArray, b: AnyArray) -> bool:
    """Whether the stored words are equal; stops at the first block that differs."""
    return all(np.array_equal(x.view(_WORD[x.itemsize]), y.view(_WORD[y.itemsize])) for _, x, y in _blocks(a, b))


def _spans(width: int, limit: int) -> Iterator[slice]:
    for start in range(0, width, limit):
        yield slice(start, min(start + limit, width))


# ---------------------------------------------------------------------------------------------- the float32 pass


def _halves(raw: AnyArray, dtype: str, low: AnyArray, high: AnyArray) -> list[Float32]:
    """A block as float32, cut into equal views that together hold every element once.

    Two neighbouring bf16 words are one 32-bit word: its upper half is a float32 but for its low bits, and its lower
    half becomes one by a shift. So even and odd columns are decoded apart, several times faster than by widening.
    """
    if dtype == "BF16" and raw.shape[1] % 2 == 0:
        words = np.ascontiguousarray(raw).view(np.uint32)
        count = words.size
        even, odd = low[:count].reshape(words.shape), high[:count].reshape(words.shape)
        np.left_shift(words, 16, out=even)
        np.bitwise_and(words, 0xFFFF0000, out=odd)
        return [even.view(np.float32), odd.view(np.float32)]
    return [decode32(np.ascontiguousarray(raw), dtype)]


def _sums32(a: AnyArray, b: AnyArray, dtype: str, by_column: bool) -> _Sums:
    width = min(a.size, RUN) if a.ndim == 1 else a.shape[-1]
    sums = _Sums.zeros(width if by_column else _line_count(a))
    size = BLOCK + max(width, int(np.prod(a.shape[1:], dtype=np.int64)))
    buffers = [np.empty(size // 2 + 1, np.uint32) for _ in range(4)]
    difference, scratch = np.empty(size, np.float32), np.empty(size, np.float32)
    for start, block_a, block_b in _blocks(a, b, _COLUMN_LINES if by_column else BLOCK):
        for span in _spans(block_a.shape[1], BLOCK if by_column else RUN):
            halves_a = _halves(block_a[:, span], dtype, *buffers[:2])
            halves_b = _halves(block_b[:, span], dtype, *buffers[2:])
            for offset, (x, y) in enumerate(zip(halves_a, halves_b, strict=True)):
                d = difference[: x.size].reshape(x.shape)
                np.subtract(y, x, out=d)
                if by_column:
                    where = slice(span.start + offset, span.stop, len(halves_a))
                    _add_columns(sums, where, x, d, scratch[: x.size].reshape(x.shape))
                else:
                    _add_rows(sums, slice(start, start + len(x)), x, d)
                sums.changed += int(np.count_nonzero(d != 0))
                sums.largest = max(sums.largest, float(d.max(initial=0.0)), -float(d.min(initial=0.0)))
    sums.b2 = sums.a2 + 2 * sums.g + sums.d2
    return sums


def _add_rows(sums: _Sums, where: slice, a: AnyArray, d: AnyArray) -> None:
    sums.a2[where] += np.vecdot(a, a)
    sums.g[where] += np.vecdot(a, d)
    sums.d2[where] += np.vecdot(d, d)


def _add_columns(sums: _Sums, where: slice, a: AnyArray, d: AnyArray, scratch: AnyArray) -> None:
    ones = np.ones(len(a), a.dtype)
    for total, x, y in ((sums.a2, a, a), (sums.g, a, d), (sums.d2, d, d)):
        np.multiply(x, y, out=scratch)
        total[where] += ones @ scratch


def _trustworthy(sums: _Sums, size: int) -> bool:
    """Whether float32 cannot have overflowed, underflowed or cancelled anywhere that counts."""
    if not (np.isfinite(sums.a2).all() and np.isfinite(sums.d2).all() and np.isfinite(sums.g).all()):
        return False
    if sums.changed and sums.largest < TINY:
        return False
    floor = TINY * TINY * max(1, size // max(1, len(sums.a2)))
    small = ((sums.a2 > 0) & (sums.a2 < floor)) | ((sums.d2 > 0) & (sums.d2 < floor))
    parallel = perpendicular(sums.a2, sums.g, sums.d2) < 1e-2 * sums.d2
    shrunk = sums.b2 < 0.25 * sums.a2
    return not (small.any() or parallel.any() or shrunk.any() or bool((sums.a2 == 0).any() and sums.changed))


# ---------------------------------------------------------------------------------------------- the float64 pass


def _sums64(a: AnyArray, dtype_a: str, b: AnyArray, dtype_b: str, by_column: bool) -> _Sums:
    sums = _Sums.zeros(a.shape[-1] if by_column else _line_count(a))
    for start, block_a, block_b in _blocks(a, b):
        for span in _spans(block_a.shape[1], BLOCK):
            x, y = decode64(block_a[:, span], dtype_a), decode64(block_b[:, span], dtype_b)
            d = y - x
            where = span if by_column else slice(start, start + len(x))
            add = _column_sum if by_column else np.vecdot
            for total, p, q in ((sums.a2, x, x), (sums.b2, y, y), (sums.g, x, d), (sums.d2, d, d)):
                total[where] += add(p, q)
            sums.nonfinite_base += x.size - int(np.isfinite(x).sum())
            sums.nonfinite_unlearned += y.size - int(np.isfinite(y).sum())
            sums.changed += int(np.count_nonzero((x != y) & ~(np.isnan(x) & np.isnan(y))))
            sums.largest = max(sums.largest, float(np.abs(d).max(initial=0.0)))
    return sums


def _residual(a: AnyArray, dtype_a: str, b: AnyArray, dtype_b: str, by_column: bool, sums: _Sums) -> Float64:
    """R summed from d - (G/A) a itself, for pairs so nearly parallel that |d|^2 - G^2/A has cancelled."""
    ratio = np.divide(sums.g, sums.a2, out=np.zeros_like(sums.g), where=sums.a2 != 0)
    result = np.zeros_like(sums.g)
    for start, block_a, block_b in _blocks(a, b):
        for span in _spans(block_a.shape[1], BLOCK):
            x, y = decode64(block_a[:, span], dtype_a), decode64(block_b[:, span], dtype_b)
            where = span if by_column else slice(start, start + len(x))
            rest = (y - x) - (ratio[where] if by_column else ratio[where, None]) * x
            result[where] += _column_sum(rest, rest) if by_column else np.vecdot(rest, rest)
    return result


def _column_sum(x: Float64, y: Float64) -> Float64:
    result: Float64 = np.einsum("ij,ij->j", x, y)
    return result


# ------------------------------------------------------------------------------------------------------- results


def _finish(sums: _Sums, neuron_axis: int | None) -> PieceDrift:
    r = perpendicular(sums.a2, sums.g, sums.d2) if sums.r is None else sums.r
    each = Moments(sums.a2, sums.b2, sums.g, r)
    neurons = each if neuron_axis is not None else None
    return PieceDrift(each.total(), neurons, sums.largest, sums.changed, 0, 0, sums.changed == 0)


def _identical(a: AnyArray, dtype: str, by_column: bool, neuron_axis: int | None) -> PieceDrift:
    """Equal words: only the norm is left to find, and nothing can drift, NaNs included."""
    sums = _Sums.zeros(a.shape[-1] if by_column else _line_count(a))
    with np.errstate(all="ignore"):
        for start, block, _ in _blocks(a, a):
            for span in _spans(block.shape[1], RUN):
                x = decode64(block[:, span], dtype)
                sums.a2[span if by_column else slice(start, start + len(x))] += (
                    _column_sum(x, x) if by_column else np.vecdot(x, x)
                )
                sums.nonfinite_base += x.size - int(np.isfinite(x).sum())
    sums.b2, sums.nonfinite_unlearned = sums.a2.copy(), sums.nonfinite_base
    return _not_finite(sums) if sums.nonfinite_base else _finish(sums, neuron_axis)


def _not_finite(sums: _Sums) -> PieceDrift:
    nan = np.full(1, np.nan)
    return PieceDrift(
        Moments(nan, nan, nan, nan),
        None,
        float("nan"),
        sums.changed,
        sums.nonfinite_base,
        sums.nonfinite_unlearned,
        sums.changed == 0,
    )
