"""Drift of one piece: how far two stored tensors are from each other, in one pass over their bytes.

A piece is cut into parts of one size, whose sums (`sums.py`) a crew of threads works out; they are merged in their
order, so that the same two tensors give the same digits whatever the number of threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ckdiff.weights.crew import Crew
from ckdiff.weights.moments import Moments, concatenate, together
from ckdiff.weights.sums import RUN, Buffers, Part, Sides, sum_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ckdiff.shapes import AnyArray

    Index = slice | tuple[int | slice, ...]

PART = 256 * RUN
"""Elements a part: some milliseconds of work, and at most 16 MB of each checkpoint."""


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


class Pages(Protocol):
    """Mapped files that can be told which of their arrays are needed soon, and which no longer."""

    def need(self, array: AnyArray) -> None:
        """Have an array read ahead."""

    def give_back(self, array: AnyArray) -> None:
        """Take an array out of memory."""


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
    return begin_drift(base, dtype_base, unlearned, dtype_unlearned, neuron_axis, Crew())()


def begin_drift(
    base: AnyArray,
    dtype_base: str,
    unlearned: AnyArray,
    dtype_unlearned: str,
    neuron_axis: int | None,
    crew: Crew,
    pages: tuple[Pages, Pages] | None = None,
) -> Callable[[], PieceDrift]:
    """As `drift`, begun by a crew; calling what is returned waits for it.

    Args:
        base: stored words, any strides, at least 0-d.
        dtype_base: safetensors name of their dtype.
        unlearned: the same of the other checkpoint.
        dtype_unlearned: the same.
        neuron_axis: 0 or 1: rows or columns are neurons; None: no neurons.
        crew: who does the work.
        pages: the files in which the two lie: the system is told what is read soon, and what was read.
    """
    a, b = _matrix(base, neuron_axis), _matrix(unlearned, neuron_axis)
    if a.ndim != b.ndim:
        a, b = _lines(base), _lines(unlearned)
    stored = isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
    job = _Job(a, dtype_base, b, dtype_unlearned, neuron_axis == 1, pages)
    parts = []
    for rows in _parts(a.shape, stored):
        job.need(rows)
        parts.append(crew.begin(job.measure, rows, crew))
    return lambda: _join([part() for part in parts], neuron_axis)


@dataclass(frozen=True, slots=True)
class _Job:
    """What the parts of one piece have in common."""

    a: AnyArray
    dtype_a: str
    b: AnyArray
    dtype_b: str
    by_column: bool
    pages: tuple[Pages, Pages] | None

    def need(self, rows: Index) -> None:
        """Have a part read ahead, where it is stored and not computed."""
        for pages, array in zip(self.pages or (), (self.a, self.b), strict=False):
            if isinstance(array, np.ndarray):
                pages.need(array[rows])

    def measure(self, rows: Index, crew: Crew) -> Part:
        """The sums of a part, which is given back."""
        x, y = self.a[rows], self.b[rows]
        sides = Sides(_two_axes(x), self.dtype_a, _two_axes(y), self.dtype_b, self.by_column)
        found = sum_part(sides, crew.own(Buffers))
        for pages, array in zip(self.pages or (), (x, y), strict=False):
            pages.give_back(array)
        return found


# ------------------------------------------------------------------------------------------------------- parts


def _matrix(array: AnyArray, neuron_axis: int | None) -> AnyArray:
    """The elements in the shape in which they are summed: flat where that copies nothing and no neuron needs lines."""
    if neuron_axis is None and isinstance(array, np.ndarray) and array.flags.c_contiguous:
        return array.reshape(-1)
    return _lines(array)


def _lines(array: AnyArray) -> AnyArray:
    return array if array.ndim >= 2 else array.reshape(1, -1)


def _parts(shape: tuple[int, ...], stored: bool) -> Iterator[Index]:
    """Indices of the parts, in order; a tensor that is computed, not stored, is cut along its first axis alone."""
    each = math.prod(shape[1:])
    if len(shape) > 2 and each > PART and stored:
        for first in range(shape[0]):
            for rest in _parts(shape[1:], stored):
                yield (first, *rest) if isinstance(rest, tuple) else (first, rest)
        return
    step = max(1, PART // max(1, each))
    for start in range(0, max(1, shape[0]), step):
        yield slice(start, start + step)


def _two_axes(array: AnyArray) -> AnyArray:
    return array.reshape(-1, array.shape[-1]) if array.ndim > 2 else array


# ------------------------------------------------------------------------------------------------------- results


def _join(parts: Sequence[Part], neuron_axis: int | None) -> PieceDrift:
    """Parts merged in their order: lines one behind the other, columns entry by entry."""
    merge = together if neuron_axis == 1 else concatenate
    each = parts[0].moments if len(parts) == 1 else merge(part.moments for part in parts)
    changed = sum(part.changed for part in parts)
    nonfinite = sum(part.nonfinite_base for part in parts), sum(part.nonfinite_unlearned for part in parts)
    if any(nonfinite):
        nan = np.full(1, np.nan)
        return PieceDrift(Moments(nan, nan, nan, nan), None, float("nan"), changed, *nonfinite, changed == 0)
    neurons = each if neuron_axis is not None else None
    largest = max(part.largest for part in parts)
    return PieceDrift(each.total(), neurons, largest, changed, *nonfinite, changed == 0)
