"""Sums from which every drift number follows, in a form that does not cancel.

With d = b - a, a pair of vectors is kept as n, A = |a|^2, B = |b|^2, G = <a, d> and R = |d - (G/A) a|^2, the part of d
that is perpendicular to a. The cosine of real unlearning is 1 - 1e-7; from R it is exact to the last digits, where
`1 - <a,b>/(|a||b|)` and even `|d|^2 - (|a|-|b|)^2` lose all of them when b is nearly a multiple of a.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckdiff.shapes import Float64, PerNeuron


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over one or more vector pairs, one entry of each array a pair; all float64.

    Attributes:
        a2: |a|^2.
        b2: |b|^2.
        g: <a, b - a>.
        r: squared length of the part of b - a that is perpendicular to a (all of it where a is zero).
    """

    a2: Float64
    b2: Float64
    g: Float64
    r: Float64

    def one_minus_cosine(self) -> Float64:
        """1 - cos(a, b) in [0, 2]: 0 where both are zero, NaN where one is.

        Equal to (|a-b|^2 - (|a|-|b|)^2) / (2|a||b|), written through R so that nothing cancels.
        """
        with np.errstate(all="ignore"):
            along = self.g / self.a2 + 1.0
            x = along * np.sqrt(self.a2)
            h2 = x * x + self.r
            h = np.sqrt(h2)
            near = (self.r / h2) / (1.0 + x / h)
            result = np.where(x > 0, near, 1.0 - x / h)
        result = np.where((self.a2 == 0) & (self.b2 == 0), 0.0, result)
        return np.where((self.a2 == 0) != (self.b2 == 0), np.nan, result)

    def relative_l2(self) -> Float64:
        """|b - a| / |a|: 0 where both are zero, infinite where only a is."""
        with np.errstate(all="ignore"):
            result = np.sqrt(self.d2() / self.a2)
        return np.where((self.a2 == 0) & (self.b2 == 0), 0.0, result)

    def d2(self) -> Float64:
        """|b - a|^2, as the sum of its parallel and its perpendicular part."""
        return self.r + _share(self.g * self.g, self.a2)

    def total(self) -> Moments:
        """All pairs as one long vector.

        The parts' own ratios G/A differ from the total's, and what differs is perpendicular to the long vector:
        R = sum R_i + sum A_i (G_i/A_i - G/A)^2, a sum of positive terms.
        """
        return _merge(self.a2[:, None], self.b2[:, None], self.g[:, None], self.r[:, None])


def perpendicular(a2: Float64, g: Float64, d2: Float64) -> Float64:
    """R from |d|^2: |d|^2 - G^2/A, never below 0."""
    return np.maximum(d2 - _share(g * g, a2), 0.0)


def concatenate(parts: Iterable[Moments]) -> Moments:
    """The pairs of several moments, one after the other."""
    parts = list(parts)
    return Moments(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("a2", "b2", "g", "r")))


def together(parts: Iterable[Moments]) -> Moments:
    """Entry by entry, the total of several moments: neuron i's gate and up vectors as one."""
    parts = list(parts)
    return _merge(*(np.stack([getattr(part, name) for part in parts]) for name in ("a2", "b2", "g", "r")))


def _merge(a2: Float64, b2: Float64, g: Float64, r: Float64) -> Moments:
    """Merge along the first axis."""
    total_a2, total_g = a2.sum(0), g.sum(0)
    spread = _share(g, a2) - _share(total_g, total_a2)
    return Moments(total_a2, b2.sum(0), total_g, r.sum(0) + (a2 * spread * spread).sum(0))


def _share(part: PerNeuron, whole: PerNeuron) -> PerNeuron:
    """Part / whole, 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(np.broadcast_shapes(part.shape, whole.shape)), where=whole != 0)
