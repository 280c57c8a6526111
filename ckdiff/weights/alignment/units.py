"""Units of a layer, and how far one is that of another model: `Units`, `resemblance(base, other)`.

A unit is a neuron or a head. It has vectors that read the residual stream (its keys) and vectors that write into it
(its values). Where a unit may be scaled, one of its reading vectors times s and its writing vectors by 1/s compute the
same, so that only the directions of vectors count here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ckdiff.shapes import AnyArray, Float32, Float64, Int64

MOVED = 0.9
"""A unit whose reading and whose writing vectors both have a lower cosine to those of its number is not in place."""

LIKE = 0.6
"""Least mean of both cosines of units that are one; of unrelated vectors of 16 numbers it is 0.25 as a rule."""

SKETCH = 256
"""Longer vectors are compared through so many random projections first: cosines off by 0.06 at most times."""

ROUNDING = 2.0**-21
"""Relative difference that scaling and scaling back makes in float32, four times over."""

QUORUM = 0.25
"""Share of a vector's elements that have one ratio where the vector was scaled."""

SCALED = 0.01
"""A unit whose logarithmic scale is within that of 0 was not scaled."""

SURE = 6.0
"""Standard errors that a scale must be away from 1: in millions of edited neurons none is called scaled."""

AGREE = 0.1
"""Two scales are one, where their logarithms differ by no more than this share, and `SCALED` beside it."""


@dataclass(frozen=True, slots=True)
class Units:
    """All units of one block of a model.

    Attributes:
        fixed: reading vectors whose scale means something (the gate) [unit, number], or None.
        reads: those whose scale may move to the writing vectors.
        writes: the writing vectors.
        flips: a sign may move between them as well.
    """

    fixed: Float32 | None
    reads: Float32
    writes: Float32
    flips: bool

    @property
    def count(self) -> int:
        """Of units."""
        return len(self.reads)


@dataclass(frozen=True, slots=True)
class Cosines:
    """How far units are those of another model; every number in [-1, 1].

    Attributes:
        reads: cosine of the vectors whose scale may move [unit], with its sign.
        writes: of the writing vectors, with its sign.
        sign: by which both were flipped, 1 or -1.
        keys: of all reading vectors together, the sign taken off.
        values: of the writing vectors, the sign taken off.
    """

    reads: Float64
    writes: Float64
    sign: Float64
    keys: Float64
    values: Float64

    def moved(self) -> Int64:
        """The units that are not in place."""
        return np.flatnonzero((self.keys < MOVED) & (self.values < MOVED))


def resemblance(keys: AnyArray, values: AnyArray) -> AnyArray:
    """The mean of both cosines less what is wanted at least; one more where either leaves no doubt by itself."""
    result: AnyArray = (keys + values) / 2 - LIKE + (np.maximum(keys, values) >= MOVED)
    return result


def cosines(base: Units, other: Units) -> Cosines:
    """The cosines of units of one number."""
    reads, writes = cosine(base.reads, other.reads), cosine(base.writes, other.writes)
    flipped = base.flips & (np.nan_to_num(reads) + np.nan_to_num(writes) < 0)
    sign = np.where(flipped, -1.0, 1.0)
    keys, values = sign * reads, sign * writes
    if base.fixed is not None and other.fixed is not None:
        fixed = cosine(base.fixed, other.fixed)
        keys = np.where(np.isnan(keys), fixed, np.where(np.isnan(fixed), keys, (keys + fixed) / 2))
    # What is dead in both is known by the rest of it.
    keys, values = np.where(np.isnan(keys), values, keys), np.where(np.isnan(values), keys, values)
    return Cosines(reads, writes, sign, np.nan_to_num(keys, nan=1.0), np.nan_to_num(values, nan=1.0))


def cosine(a: Float32, b: Float32) -> Float64:
    """Of each row; NaN where both are all zeros, 0 where one is."""
    inner = np.einsum("ij,ij->i", a, b, dtype=np.float64)
    lengths = norms(a) * norms(b)
    both = (norms(a) == 0) & (norms(b) == 0)
    result: Float64 = np.where(both, np.nan, inner / np.where(lengths > 0, lengths, 1.0))
    return result


def norms(rows: Float32) -> Float64:
    """The length of each row."""
    result: Float64 = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    return result


def ratio(base: Float32, other: Float32) -> Float64:
    """The factor by which a row is another one: that on which a quarter of its elements agree, else by least squares.

    What was scaled and edited after it has its scale from the elements that no edit reached.
    """
    squares = norms(base)[:, None] ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        fitted = np.einsum("ij,ij->i", base, other, dtype=np.float64)[:, None] / squares
        each = np.where(base != 0, other.astype(np.float64) / base, fitted)
        middle = np.median(each, axis=1, keepdims=True)
        agree = np.abs(each - middle) <= ROUNDING * np.abs(middle)
        count = agree.sum(1, keepdims=True)
        exact = np.sum(each, axis=1, where=agree, keepdims=True) / np.maximum(count, 1)
    result: Float64 = np.where(count >= QUORUM * base.shape[1], exact, fitted)[:, 0]
    return result


def one_scale(keys: Float64, values: Float64, log: Float64, noise: Float64) -> AnyArray:
    """Whether logarithms of two scales are those of one that is not 1.

    Args:
        keys: as the reading vectors have it.
        values: as the writing vectors have it.
        log: the better known of both.
        noise: standard error of that, by `scale_noise`.
    """
    # Of what is pruned to nothing the logarithm has no end, and nothing undoes it.
    finite = np.isfinite(keys) & np.isfinite(values) & np.isfinite(log)
    with np.errstate(invalid="ignore"):
        apart, size = np.abs(keys - values), np.abs(log)
    exact = (apart <= 4 * ROUNDING) & (size > 16 * ROUNDING)
    result: AnyArray = finite & (exact | ((apart <= AGREE * size + SCALED) & (size > SCALED + SURE * noise)))
    return result


def scale_noise(cosine: Float64, length: int) -> Float64:
    """By how much an edit without a direction of its own moves the logarithm of a vector's length, as a rule.

    An edit turns a vector by an angle; each of its numbers has an equal share of that, the one along it too.
    """
    clipped = np.clip(np.abs(np.nan_to_num(cosine)), 1e-6, 1.0)
    result: Float64 = np.sqrt((1 - clipped**2) / length) / clipped
    return result


class Sketches:
    """Units of two models as short unit vectors, of which every pair's resemblance is a product of matrices."""

    def __init__(self, base: Units, other: Units) -> None:
        self._sides = tuple(
            tuple(None if rows is None else _short(rows) for rows in (one.fixed, one.reads, one.writes))
            for one in (base, other)
        )
        self._flips = base.flips

    def alike(self, rows: Int64, columns: Int64) -> Float32:
        """How much units of the base are units of the other model [row, column]; below 0: not at all."""
        fixed, reads, writes = (
            None if a is None or b is None else a[rows] @ b[columns].T
            for a, b in zip(self._sides[0], self._sides[1], strict=True)
        )
        assert reads is not None
        assert writes is not None
        if self._flips:
            sign = np.where(reads + writes < 0, np.float32(-1), np.float32(1))
            reads, writes = reads * sign, writes * sign
        keys = reads if fixed is None else (reads + fixed) / 2
        return resemblance(keys, writes).astype(np.float32)


def _short(rows: Float32) -> Float32:
    """Rows of length 1, projected where they are long."""
    if rows.shape[1] > SKETCH:
        random = np.random.default_rng(rows.shape[1]).standard_normal((rows.shape[1], SKETCH), dtype=np.float32)
        rows = rows @ random
    return unit(rows)


def unit(rows: Float32) -> Float32:
    """Rows of length 1; those that are all zeros stay so."""
    lengths = norms(rows)
    result: Float32 = (rows / np.where(lengths > 0, lengths, 1.0)[:, None]).astype(np.float32)
    return result
