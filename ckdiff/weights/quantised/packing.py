"""Whole numbers of a few bits, and the small floats, as they are packed into bytes and words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ckdiff.weights.storage import decode64

if TYPE_CHECKING:
    from ckdiff.shapes import AnyArray, Float32

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
"""The value of every 4-bit float: a sign, two bits of exponent, one of mantissa."""


def nearest(levels: AnyArray, values: AnyArray) -> AnyArray:
    """Every value as the nearest of some levels, whatever their order."""
    ordered = np.unique(levels[np.isfinite(levels)])
    found: AnyArray = ordered[np.searchsorted((ordered[1:] + ordered[:-1]) / 2, values)]
    return found


def divide(values: AnyArray, scales: AnyArray) -> AnyArray:
    """Values / scales, 0 where the scale is 0."""
    shape = np.broadcast_shapes(values.shape, scales.shape)
    return np.divide(values, scales, out=np.zeros(shape), where=np.broadcast_to(scales != 0, shape))


def unpack(words: AnyArray, bits: int, count: int) -> AnyArray:
    """The first `count` numbers of so many bits along the last axis of 32-bit words, the lowest bits first.

    They lie one behind the other without a gap, so that where 32 is no multiple of `bits` some lie across two words.
    """
    words = np.ascontiguousarray(words).view(np.uint32)
    start = np.arange(count, dtype=np.int64) * bits
    word, shift = start // 32, (start % 32).astype(np.uint64)
    low = words[..., word].astype(np.uint64)
    if 32 % bits:
        low |= words[..., np.minimum(word + 1, words.shape[-1] - 1)].astype(np.uint64) << np.uint64(32)
    return ((low >> shift) & np.uint64((1 << bits) - 1)).astype(np.int32)


def nibbles(raw: AnyArray, high_first: bool = False) -> AnyArray:
    """The two 4-bit codes of every byte, twice as many along the last axis."""
    raw = np.ascontiguousarray(raw).view(np.uint8)
    result = np.empty((*raw.shape[:-1], 2 * raw.shape[-1]), np.uint8)
    result[..., int(high_first) :: 2] = raw & 0x0F
    result[..., int(not high_first) :: 2] = raw >> 4
    return result


def scale_values(raw: AnyArray, dtype: str) -> Float32:
    """Stored scales as float32. A whole number of 8 bits is an exponent, 2^(x - 127), as in the MX formats."""
    found: Float32 = decode64(raw, "F8_E8M0" if dtype == "U8" else dtype).astype(np.float32)
    return found


def words_of(raw: AnyArray, first: int, last: int, bits: int) -> tuple[AnyArray, int]:
    """The words along the last axis that hold numbers first … last-1, and how many numbers stand before the first."""
    aligned = first - first % 32
    begin, end = aligned * bits // 32, -(-last * bits // 32)
    return raw[..., begin:end], first - aligned
