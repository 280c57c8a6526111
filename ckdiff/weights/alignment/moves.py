"""Pieces of a checkpoint in another order or scale: `Move`, and `align_checkpoint` which does it.

A move says of one piece of a stored tensor which piece it is taken from, in what order, and times what. Stored bytes
are left alone: the tensors of an aligned checkpoint are computed when they are read.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.weights.alignment.units import ROUNDING
from ckdiff.weights.checkpoint import Derived
from ckdiff.weights.storage import Mapped, decode32

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.shapes import AnyArray, Float32, Float64, Int64
    from ckdiff.weights.checkpoint import Checkpoint
    from ckdiff.weights.components import Piece


@dataclass(frozen=True, slots=True)
class Move:
    """One piece of the aligned checkpoint.

    Attributes:
        target: the piece that it is.
        source: the piece that it is taken from; the same one but in a mixture of experts.
        base: the base's piece of that name.
        axis: along which units lie.
        order: which row or column of the source each one is.
        factor: that it is multiplied by, or None where all are 1.
    """

    target: Piece
    source: Piece
    base: Piece
    axis: int
    order: Int64
    factor: Float64 | None


class Pieces:
    """Pieces of one checkpoint as float32, in the shape that their component has."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.files = Mapped(checkpoint)

    def read(self, piece: Piece) -> Float32:
        """All of a piece; a copy, or a view that must not be written to."""
        raw = self.files.raw(piece.tensor)
        view = raw if piece.cut is None else piece.cut.view(raw)
        dtype = self.files.checkpoint.dtype(piece.tensor)
        with np.errstate(all="ignore"):
            values: Float32 = decode32(view, dtype) if dtype in NARROW else view.astype(np.float32, copy=False)
        return values.reshape(piece.shape)

    def rows(self, piece: Piece, axis: int) -> Float32:
        """A piece with its units as rows, whatever axis they lie on; a vector as one column."""
        values = self.read(piece)
        values = values[:, None] if values.ndim == 1 else values
        return np.ascontiguousarray(values if axis == 0 else values.T)


NARROW = frozenset({"BF16", "F16", "F8_E4M3", "F8_E5M2"})


def move_piece(move: Move, base: Pieces, other: Pieces) -> Float32:
    """The piece as it is handed out.

    What was scaled comes back rounded: where it then is the base's value but for that, it is that value, so that what
    did not change is seen not to have changed.
    """
    values = np.take(other.read(move.source), move.order, move.axis)
    if move.factor is None:
        return values
    scaled = move.factor != 1
    shape = [1] * values.ndim
    shape[move.axis] = len(move.factor)
    wanted = base.read(move.base)
    with np.errstate(all="ignore"):
        values = (values * move.factor.reshape(shape)).astype(np.float32)
        same = np.abs(values - wanted) <= ROUNDING * np.abs(wanted)
    return np.where(same & scaled.reshape(shape), wanted, values)


def align_checkpoint(checkpoint: Checkpoint, base: Checkpoint, moves: Sequence[Move]) -> Checkpoint:
    """The same checkpoint with its units in the base's order and scale: the same function, other numbers.

    Args:
        checkpoint: as it is stored.
        base: the checkpoint whose order is wanted.
        moves: of its pieces.
    """
    by_tensor: dict[str, list[Move]] = defaultdict(list)
    for move in moves:
        by_tensor[move.target.tensor].append(move)
    derived = dict(checkpoint.derived)
    shapes = checkpoint.shapes()
    for tensor, own in by_tensor.items():
        sources = tuple(dict.fromkeys(move.source.tensor for move in own))
        label = derived[tensor].label if tensor in derived else ""
        derived[tensor] = Derived(shapes[tensor], sources, partial(_rows, checkpoint, base, tensor, own), label)
    return replace(checkpoint, derived=derived)


def _rows(checkpoint: Checkpoint, base: Checkpoint, tensor: str, moves: list[Move], start: int, stop: int) -> AnyArray:
    """Rows of an aligned tensor."""
    theirs, ours = Pieces(checkpoint), Pieces(base)
    raw, dtype = theirs.files.raw(tensor), checkpoint.dtype(tensor)
    whole = decode32(raw, dtype) if dtype in NARROW else raw.astype(np.float32)
    for move in moves:
        values = move_piece(move, ours, theirs)
        if move.target.cut is None:
            whole[...] = values
        else:
            view = move.target.cut.view(whole)
            view[...] = values.reshape(view.shape)
    return whole[start:stop]
