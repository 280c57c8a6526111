"""How often a guess is right: `at_least(2, [0.1, 0.2, 0.1])`, the chance of two hits and more. NumPy only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable


def at_least(count: int, chances: Iterable[float]) -> float:
    """The chance that so many of several independent guesses and more are right, in [0, 1].

    The upper tail of the Poisson-binomial distribution, by adding one guess after the other.

    Args:
        count: hits.
        chances: of each guess.

    >>> [round(at_least(count, [0.5, 0.5, 0.2]), 3) for count in (0, 1, 2, 3, 4)]
    [1.0, 0.8, 0.35, 0.05, 0.0]
    """
    hits = np.ones(1)
    for chance in chances:
        hits = np.append(hits * (1 - chance), 0.0) + np.append(0.0, hits * chance)
    return float(min(1.0, hits[count:].sum()))
