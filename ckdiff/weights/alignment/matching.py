"""Which unit of one model is which of another: `match(similarity, own, moved)`, greedily by mutual nearest neighbours.

Units that were only put into another order find each other in the first round. Twins do in the next ones, since what is
taken is taken away. Whatever finds no partner that resembles it stays where it is as far as it can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckdiff.shapes import Float32, Int64

    Similarity = Callable[[Int64, Int64], Float32]

ROWS = 1024
"""Units whose similarities to all others are there at one time."""


def match(similarity: Similarity, moved: Int64, count: int) -> Int64:
    """For each unit of the base the number of its partner; a permutation.

    Args:
        similarity: of some units of the base to some of the other model [unit, unit]; below 0 for pairs that do not
            resemble each other.
        moved: the units that are not where they were; all others stay.
        count: of all units.
    """
    partner = np.arange(count)
    rows, columns = moved, moved
    while len(rows):
        best, score = _nearest(similarity, rows, columns)
        back, _ = _nearest(lambda a, b: similarity(b, a).T, columns, rows)
        mutual = np.flatnonzero((score >= 0) & (back[best] == np.arange(len(rows))))
        if not len(mutual):
            break
        partner[rows[mutual]] = columns[best[mutual]]
        rows, columns = np.delete(rows, mutual), np.delete(columns, best[mutual])
    _fill(partner, rows, columns)
    return partner


def _nearest(similarity: Similarity, rows: Int64, columns: Int64) -> tuple[Int64, Float32]:
    """For each row the place of the column that is most like it, and how much."""
    best, score = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.float32)
    for start in range(0, len(rows), ROWS):
        some = slice(start, start + ROWS)
        found = similarity(rows[some], columns)
        best[some] = found.argmax(1)
        score[some] = np.take_along_axis(found, best[some, None], 1)[:, 0]
    return best, score


def _fill(partner: Int64, rows: Int64, columns: Int64) -> None:
    """Partners for what resembles nothing: its own number where that is free, else what is left, in order."""
    own = np.intersect1d(rows, columns)
    partner[own] = own
    partner[np.setdiff1d(rows, own)] = np.setdiff1d(columns, own)
