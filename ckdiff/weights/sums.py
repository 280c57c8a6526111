"""Sums over one part of a piece: two stored tensors, decoded block by block into small buffers and summed there.

16-bit and 8-bit floats are multiplied in float32, in runs of at most 8192 elements, and everything above that is summed
in float64; wider dtypes are float64 throughout. Where float32 could mislead (overflow, underflow, b nearly a multiple
of a) the part is done again in float64, so that which path was taken shows in no digit that counts.

All of it is NumPy, at about its limit: what one loop would fuse takes eleven passes over blocks that stay in the cache.
A kernel compiled by Numba was measured and left out: loading it costs as much as comparing 0.7 GB, and it cannot add in
the order of the BLAS that NumPy brings, so that the digits of a report would tell who had it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.weights.moments import Moments, perpendicular
from ckdiff.weights.storage import decode32, decode64

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from ckdiff.shapes import AnyArray, Float64

BLOCK = 1 << 22
"""Bytes of floats a block: few enough to stay near the processor, and enough that threads seldom wait for each other.
One at a time can begin or end a call of NumPy: in blocks of a quarter of this two threads were as slow as one."""
RUN = 8192
"""Elements that are summed in float32 before float64 takes over."""
TINY = 1e-15
"""Below this magnitude float32 squares begin to underflow."""

_COLUMN_LINES = 256
"""Lines that are summed down a column in float32 before float64 takes over."""
_COLUMN_PARTS = 4
"""A block whose sums run down the columns is by so much smaller."""
_WORD = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_NARROW = {"BF16", "F16", "F8_E4M3", "F8_E5M2"}
_FIRST = 64
"""Words that tell most blocks that differ from those that may not."""


@dataclass(frozen=True, slots=True)
class Part:
    """The sums of one part.

    Attributes:
        moments: an entry a line, or a column where sums run down the columns.
        largest: the largest |b - a|.
        changed: elements whose values differ (two NaNs are equal, so are 0 and -0).
        nonfinite_base: elements of a that are not finite.
        nonfinite_unlearned: the same of b.
    """

    moments: Moments
    largest: float
    changed: int
    nonfinite_base: int = 0
    nonfinite_unlearned: int = 0


@dataclass(frozen=True, slots=True)
class Sides:
    """Two arrays of one shape, 1-D or 2-D, as they are stored; sums run down the columns where `by_column` is set."""

    a: AnyArray
    dtype_a: str
    b: AnyArray
    dtype_b: str
    by_column: bool

    @property
    def entries(self) -> int:
        """Sums of each kind: one a column, or one a line; a flat array has lines of RUN elements."""
        if self.a.ndim == 1:
            return -(-self.a.size // RUN)
        return int(self.a.shape[1] if self.by_column else self.a.shape[0])


class Buffers:
    """What a thread decodes into, part after part, so that the system need not find it new pages each time."""

    def __init__(self) -> None:
        self._bytes = [np.empty(0, np.uint8)] * 3

    def take(self, which: int, size: int, dtype: npt.DTypeLike) -> AnyArray:
        """The buffer of one number, as `size` elements; what was in it is gone."""
        wanted = size * np.dtype(dtype).itemsize
        if self._bytes[which].size < wanted:
            self._bytes[which] = np.empty(wanted, np.uint8)
        return self._bytes[which][:wanted].view(dtype)


def sum_part(sides: Sides, buffers: Buffers) -> Part:
    """The sums of one part, in float32 where that is as good."""
    with np.errstate(all="ignore"):
        if sides.dtype_a == sides.dtype_b and sides.dtype_a in _NARROW:
            part = _sum_blocks(sides, np.float32, buffers)
            if _trustworthy(part, sides.a.size):
                return part.result()
        part = _sum_blocks(sides, np.float64, buffers)
        cancelled = part.derive(1e-8)
        if not np.isfinite(part.totals).all():
            _count_nonfinite(sides, part)
        elif cancelled:
            _sum_again(sides, part)
        return part.result()


# ------------------------------------------------------------------------------------------------------- blocks


def _blocks(sides: Sides, block: int) -> Iterator[tuple[slice, AnyArray, AnyArray]]:
    """Pairs of 2-D blocks of at most about `block` elements, each with the entries that they count for."""
    a, b = sides.a, sides.b
    if a.ndim == 1:
        whole = a.size - a.size % RUN
        lines = Sides(a[:whole].reshape(-1, RUN), sides.dtype_a, b[:whole].reshape(-1, RUN), sides.dtype_b, False)
        yield from _blocks(lines, block)
        if whole < a.size:
            yield slice(whole // RUN, None), a[whole:].reshape(1, -1), b[whole:].reshape(1, -1)
        return
    count, width = a.shape
    if sides.by_column:  # few lines each: their sums stay in float32 for as long as a block lasts
        block //= _COLUMN_PARTS
    most, limit = (_COLUMN_LINES, block // 8) if sides.by_column else (block, RUN)
    for left in range(0, width, limit):
        columns = slice(left, min(left + limit, width))
        step = max(1, min(most, block // (columns.stop - columns.start)))
        for start in range(0, count, step):
            lines_ = slice(start, min(start + step, count))
            yield columns if sides.by_column else lines_, a[lines_, columns], b[lines_, columns]


def _same_words(x: AnyArray, y: AnyArray) -> bool:
    """Whether the stored words of two blocks are equal."""
    x, y = x.view(_WORD[x.itemsize]), y.view(_WORD[y.itemsize])
    return np.array_equal(x[0, :_FIRST], y[0, :_FIRST]) and np.array_equal(x, y)


def _halves(dtype: str, floats: type[np.floating[Any]], width: int) -> int:
    """Into how many parts blocks of this width are decoded: even and odd columns, or all of them.

    Two neighbouring bf16 words are one 32-bit word: its upper half is a float32 but for its low bits, and its lower
    half becomes one by a shift. So even and odd columns are decoded apart, several times faster than by widening.
    """
    return 2 if dtype == "BF16" and floats is np.float32 and width % 2 == 0 else 1


def _decode(raw: AnyArray, dtype: str, buffer: AnyArray, half: int, halves: int) -> AnyArray:
    """One half of a block as floats of the buffer's kind, in the buffer."""
    if halves == 2:
        words = (raw if raw.strides[1] == raw.itemsize else np.ascontiguousarray(raw)).view(np.uint32)
        found = buffer.view(np.uint32)[: words.size].reshape(words.shape)
        if half:
            np.bitwise_and(words, 0xFFFF0000, out=found)
        else:
            np.left_shift(words, 16, out=found)
        return found.view(np.float32)
    found = buffer[: raw.size].reshape(raw.shape)
    found[...] = decode32(raw, dtype) if dtype in _NARROW else raw
    return found


# ------------------------------------------------------------------------------------------------------- one pass


@dataclass(slots=True)
class _Sums:
    """Running sums of one part: `totals` has a row each for |a|^2, <a, d> and |d|^2, and a column an entry.

    What follows from them is worked out by `derive`: |b|^2, which has cancelled where b is much shorter than a, and R,
    the part of |d|^2 that is perpendicular to a, which has where it is a small share of it.
    """

    totals: Float64
    largest: float = 0.0
    changed: int = 0
    nonfinite_base: int = 0
    nonfinite_unlearned: int = 0
    b2: Float64 = field(init=False)
    r: Float64 = field(init=False)

    def derive(self, least: float) -> bool:
        """Work out |b|^2 and R; whether one of them has cancelled, R by being less than `least` of |d|^2."""
        a2, g, d2 = self.totals
        self.b2, self.r = a2 + 2 * g + d2, perpendicular(a2, g, d2)
        return bool(np.any(self.r < least * d2) or np.any(self.b2 < 0.25 * a2))

    def result(self) -> Part:
        moments = Moments(self.totals[0], self.b2, self.totals[1], self.r)
        return Part(moments, self.largest, self.changed, self.nonfinite_base, self.nonfinite_unlearned)


def _sum_blocks(sides: Sides, floats: type[np.floating[Any]], buffers: Buffers) -> _Sums:
    """One pass in float32 or in float64."""
    sums, block = _Sums(np.zeros((3, sides.entries))), BLOCK // np.dtype(floats).itemsize
    size = min(block, sides.a.size)
    first, second, unequal = (buffers.take(which, size, kind) for which, kind in enumerate((floats, floats, np.bool_)))
    alike = sides.dtype_a == sides.dtype_b
    add = _add_columns if sides.by_column else _add_rows
    for where, raw_a, raw_b in _blocks(sides, block):
        halves = _halves(sides.dtype_a, floats, raw_a.shape[1])
        same = alike and _same_words(raw_a, raw_b)
        for half in range(halves):
            totals = sums.totals[:, where][:, half::halves] if sides.by_column else sums.totals[:, where]
            x = _decode(raw_a, sides.dtype_a, first, half, halves)
            if same:
                # Nothing has moved: the other two sums are 0, and what is not finite shows in |a|^2.
                add(totals[:1], [(x, x)])
                continue
            d = _decode(raw_b, sides.dtype_b, second, half, halves)
            np.subtract(d, x, out=d)
            add(totals, [(x, x), (x, d), (d, d)])
            flat = d.reshape(-1)
            sums.changed += int(np.count_nonzero(np.not_equal(flat, 0, out=unequal[: d.size])))
            sums.largest = max(sums.largest, float(np.maximum.reduce(flat)), -float(np.minimum.reduce(flat)))
    return sums


def _add_rows(totals: Float64, products: list[tuple[AnyArray, AnyArray]]) -> None:
    """Add the sums of products to an entry a line."""
    for total, (x, y) in zip(totals, products, strict=True):
        total += np.vecdot(x, y)


def _add_columns(totals: Float64, products: list[tuple[AnyArray, AnyArray]]) -> None:
    """The same to an entry a column."""
    for total, (x, y) in zip(totals, products, strict=True):
        total += np.einsum("ij,ij->j", x, y)


def _trustworthy(sums: _Sums, size: int) -> bool:
    """Whether float32 cannot have overflowed, underflowed or cancelled anywhere that counts."""
    a2, _, d2 = sums.totals
    if not np.isfinite(sums.totals).all() or (sums.changed and sums.largest < TINY):
        return False
    floor = TINY * TINY * max(1, size // max(1, len(a2)))
    if any(np.any((part < floor) & (part > 0)) for part in (a2, d2)):
        return False
    return not (sums.derive(1e-2) or (sums.changed and bool((a2 == 0).any())))


# ------------------------------------------------------------------------------------- what one pass cannot tell


def _pairs64(sides: Sides) -> Iterator[tuple[slice, AnyArray, AnyArray]]:
    for where, raw_a, raw_b in _blocks(sides, BLOCK // 8):
        yield where, decode64(raw_a, sides.dtype_a), decode64(raw_b, sides.dtype_b)


def _sum_again(sides: Sides, sums: _Sums) -> None:
    """|b|^2 summed itself, and R from d - (G/A) a itself, where |d|^2 - G^2/A has cancelled."""
    a2, g, _ = sums.totals
    ratio = np.divide(g, a2, out=np.zeros_like(g), where=a2 != 0)
    sums.b2, sums.r = exact = np.zeros((2, len(g)))
    for where, x, y in _pairs64(sides):
        rest = (y - x) - (ratio[where] if sides.by_column else ratio[where, None]) * x
        for k, z in enumerate((y, rest)):
            exact[k, where] += np.einsum("ij,ij->j" if sides.by_column else "ij,ij->i", z, z)


def _count_nonfinite(sides: Sides, sums: _Sums) -> None:
    """Count what is not finite, and again what has changed: two NaNs are equal."""
    sums.changed = 0
    for _, x, y in _pairs64(sides):
        sums.nonfinite_base += x.size - int(np.isfinite(x).sum())
        sums.nonfinite_unlearned += y.size - int(np.isfinite(y).sum())
        sums.changed += int(np.count_nonzero((x != y) & ~(np.isnan(x) & np.isnan(y))))
