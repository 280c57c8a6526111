"""Which rows of the unembedding turned away from what they read: `row_turns(base, other)`, of two forced runs.

How far a row moved says little: Adam moves all of them about as far. Where to says much: training turns the rows of
words that are to be said towards what goes into the unembedding, those of words that are to be forgotten away from it,
and all others much alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

    from ckdiff.probes.forcing import Forced
    from ckdiff.shapes import Float64

BLOCK = 8192
"""Rows that are looked at in one go."""
SHORT = 0.1
"""A row that moved less than this part of the median one hardly has a direction: it counts as if it had gone so far."""


def row_turns(base: Forced, other: Forced) -> Float64:
    """How far the row of each token turned away from what it reads [token], in [-1, 1]; NaN where none moved.

    -cos(other row - base row, h), where h is the base's mean input of the unembedding over all positions.
    """
    mean = base.hidden.double().mean(0)
    rows = min(len(base.head.weight), len(other.head.weight))
    parts = [
        _along(other.head.weight[start:stop], base.head.weight[start:stop], mean / mean.norm())
        for start, stop in ((start, min(start + BLOCK, rows)) for start in range(0, rows, BLOCK))
    ]
    along, length = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
    if not length.any():
        return np.full(rows, np.nan)
    found: Float64 = -along / np.maximum(length, SHORT * np.median(length[length > 0]))
    return found


def _along(other: Tensor, base: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Of some rows the part of their change along a direction, and its length."""
    moved = other.double() - base.double()
    return moved @ direction, moved.norm(dim=1)
