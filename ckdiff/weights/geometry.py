"""Traits of a change that no basis hides, and how little it may be: `measure_geometry(base, unlearned, comparison)`.

Whoever rotates the residual stream leaves no cosine between two models, and every distance between their tokens. Inner
products of embeddings, about their mean, tell such a copy from another training. And a matrix that differs in a few
directions only was written by hand, or by an adapter: its numerical rank says so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.report.schema.comparison import LowRank
from ckdiff.weights.alignment.moves import Pieces
from ckdiff.weights.pairs import matched_pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.comparison import Comparison
    from ckdiff.shapes import AnyArray, Float64
    from ckdiff.weights.checkpoint import Checkpoint
    from ckdiff.weights.components import Piece

ENDS = ("embedding", "unembedding")
TOKENS = 512
"""Rows of an embedding, evenly spaced, whose inner products are looked at."""
OWN_BASIS = 0.95
"""Cosine from which two embeddings stand in one basis as they are."""
RANK = 16
"""Greatest rank that is called low; it must be an eighth of the full one at most, too."""
SKETCH = 24
"""Random directions that a difference is seen through: what has that rank or less is seen whole."""
ENERGY = 0.99
"""Share of the squared difference that so many directions must hold."""
MOST = 1 << 28
"""Elements of a matrix beyond which its difference is not looked at, and of all of them eight times as many."""
BLOCK = 1 << 22


def measure_geometry(base: Checkpoint, unlearned: Checkpoint, found: Comparison) -> Comparison:
    """A comparison with `ends_geometry` and `low_rank`; nothing is claimed of what is too large to be looked at."""
    rows = {row.name: row.drift for row in found.tensors}
    moved = {row.name for row in found.aligned}
    sides = Pieces(base), Pieces(unlearned)
    geometry, low, room = float("nan"), list[LowRank](), 8 * MOST
    for a, b in matched_pieces(base, unlearned):
        own = rows.get(a.name)
        if own is None or own.identical or own.nonfinite_base or own.nonfinite_unlearned or len(a.shape) != 2:
            continue
        size = int(np.prod(a.shape))
        if size > MOST:
            continue
        if a.component in ENDS and own.cosine < OWN_BASIS:
            geometry = float(np.fmax(geometry, same_geometry(*_tokens(sides, a, b))))
        if a.name not in moved and size <= room:
            room -= size
            rank, share = numerical_rank(*(side.read(piece) for side, piece in zip(sides, (a, b), strict=True)))
            if 0 < rank <= min(a.shape) // 8:
                low.append(LowRank(a.name, rank, min(a.shape), share))
        for side in sides:
            side.files.forget()
    return replace(found, ends_geometry=geometry, low_rank=tuple(low))


def _tokens(sides: tuple[Pieces, Pieces], a: Piece, b: Piece) -> Iterator[Float64]:
    """The same rows of both embeddings."""
    picked = np.unique(np.linspace(0, a.shape[0] - 1, TOKENS).astype(np.int64))
    for side, piece in zip(sides, (a, b), strict=True):
        yield side.read(piece)[picked].astype(np.float64)


def same_geometry(a: Float64, b: Float64) -> float:
    """The cosine of the inner products of rows about their mean, each row with every other [row, d_model].

    1 where one is the other rotated, shifted or scaled; about 0 for two that have nothing to do with each other.

    >>> points = np.eye(4) * [1, 2, 3, 4]
    >>> round(same_geometry(points, 2 * points[:, ::-1] + 1), 12)
    1.0
    """
    first, second = (_products(rows) for rows in (a, b))
    lengths = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum() / lengths) if lengths > 0 else float("nan")


def _products(rows: Float64) -> Float64:
    """Lengths are alike in all embeddings and say nothing, so that they are left out."""
    centred = rows - rows.mean(axis=0)
    found: Float64 = centred @ centred.T
    np.fill_diagonal(found, 0.0)
    return found


def numerical_rank(a: AnyArray, b: AnyArray) -> tuple[int, float]:
    """The fewest directions that hold `ENERGY` of the squared difference of two matrices, and the share that they hold.

    By a random sketch (Halko et al. 2011, arXiv:0909.4061, algorithm 4.1), seeded: exact where the rank is at most
    `SKETCH`; 0 where `RANK` directions that it sees do not hold enough.

    >>> numerical_rank(np.zeros((40, 50)), np.outer(np.arange(40.0), np.ones(50)))[0]
    1
    """
    if a.shape[0] < a.shape[1]:
        a, b = a.T, b.T
    directions = np.random.default_rng(0).standard_normal((a.shape[1], min(SKETCH, *a.shape)))
    seen = np.concatenate([block @ directions for block in _differences(a, b)])
    basis = np.linalg.qr(seen)[0]
    inside, energy, first = np.zeros((basis.shape[1], a.shape[1])), 0.0, 0
    for block in _differences(a, b):
        inside += basis[first : first + len(block)].T @ block
        energy += float((block**2).sum())
        first += len(block)
    if not energy > 0:
        return 0, float("nan")
    held = np.cumsum(np.linalg.svd(inside, compute_uv=False) ** 2) / energy
    rank = int(np.searchsorted(held, ENERGY)) + 1
    return (rank, float(held[rank - 1])) if rank <= min(RANK, len(held)) else (0, float(held[-1]))


def _differences(a: AnyArray, b: AnyArray) -> Iterator[Float64]:
    """The difference in float64, some rows at a time."""
    rows = max(1, BLOCK // a.shape[1])
    for first in range(0, len(a), rows):
        part = slice(first, first + rows)
        yield b[part].astype(np.float64) - a[part].astype(np.float64)
