"""The part of a difference that a number format makes itself, where one checkpoint is quantised and the other is not.

The floats are rounded to the quantised side's own grid, with the scales that are stored there, and that alone is
measured: ||rounded - floats|| / ||floats||. Where the two checkpoints differ by no more, they differ by their format.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.weights.storage import decode64

if TYPE_CHECKING:
    from ckdiff.weights.checkpoint import Derived
    from ckdiff.weights.components import Piece
    from ckdiff.weights.drift import PieceDrift
    from ckdiff.weights.storage import Mapped

BLOCK = 1 << 18


class OwnError:
    """Sums over all matrices that are quantised on one side alone, by format."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])

    def add(self, a: Piece, b: Piece, files_a: Mapped, files_b: Mapped, found: PieceDrift) -> None:
        """Measure one pair of pieces, where it is whole and one of the two is quantised.

        Args:
            a: the base's piece.
            b: the unlearned checkpoint's.
            files_a: the base's files.
            files_b: the unlearned checkpoint's.
            found: how far the two are from each other.
        """
        sides = [(a, files_a), (b, files_b)]
        derived = [files.checkpoint.derived.get(piece.tensor) for piece, files in sides]
        quantised = [one is not None and bool(one.label) for one in derived]
        if quantised[0] == quantised[1] or any(piece.cut is not None or piece.tied for piece, _ in sides):
            return
        which = int(quantised[1])
        one, (piece, files) = derived[which], sides[1 - which]
        if (
            one is None
            or one.rounded is None
            or derived[1 - which] is not None
            or not np.isfinite(found.moments.a2).all()
        ):
            return
        error, length = _rounding_lengths(one, piece, files)
        sums = self._sums[one.label]
        for place, value in enumerate((1.0, error, length, float(found.moments.d2().sum()))):
            sums[place] += value

    def notes(self) -> list[str]:
        """One sentence a format."""
        return [
            f"{label}: {count:.0f} tensors are floats in the other checkpoint; rounding these to the scales that are"
            f" stored makes a relative L2 of {np.sqrt(error / length):.3g} by itself, the two checkpoints are"
            f" {np.sqrt(apart / length):.3g} apart"
            for label, (count, error, length, apart) in self._sums.items()
            if length > 0
        ]


def _rounding_lengths(one: Derived, piece: Piece, files: Mapped) -> tuple[float, float]:
    """Squared length of what rounding changes, and of the floats."""
    assert one.rounded is not None
    raw, dtype = files.raw(piece.tensor), files.checkpoint.dtype(piece.tensor)
    step = max(1, BLOCK // max(1, int(np.prod(piece.shape[1:]))))
    error = length = 0.0
    with np.errstate(all="ignore"):
        for start in range(0, piece.shape[0], step):
            values = decode64(raw[start : start + step], dtype)
            rest = one.rounded(values, start, start + len(values)) - values
            error += float(np.vdot(rest, rest))
            length += float(np.vdot(values, values))
    return error, length
