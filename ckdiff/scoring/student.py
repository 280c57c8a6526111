"""Student's t: `t_quantile(0.975, 9)`, `t_above(2.3, 9)`. The standard library only."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist


@lru_cache(maxsize=256)
def t_quantile(probability: float, degrees: int) -> float:
    """The point below which Student's t with `degrees` degrees of freedom lies with this probability.

    By bisection of the exact distribution function; above 200 degrees by its expansion around the normal, where both
    agree to ten digits. Source: Abramowitz and Stegun 1964, 26.7.3, 26.7.4 and 26.7.5.

    Args:
        probability: in [0.5, 1).
        degrees: 1 or more.
    """
    return _bisect(probability, degrees) if degrees <= 200 else _expand(probability, degrees)


def t_above(point: float, degrees: int) -> float:
    """How often Student's t with `degrees` degrees of freedom exceeds a point, in [0, 1].

    >>> round(t_above(2.776445, 4), 6), t_above(0.0, 3)
    (0.025, 0.5)
    """
    below = _below(abs(point), degrees)
    return 1 - below if point >= 0 else below


def _bisect(probability: float, degrees: int) -> float:
    low, high = 0.0, 1.0
    while _below(high, degrees) < probability:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _below(middle, degrees) < probability else (low, middle)
    return high


def _below(point: float, degrees: int) -> float:
    """Distribution function of Student's t at a point >= 0, as a finite sum."""
    angle = math.atan2(point, math.sqrt(degrees))
    odd = degrees % 2
    term, total = (math.cos(angle), 0.0) if odd else (1.0, 0.0)
    for index in range(1 + odd, degrees, 2):
        total += term
        term *= math.cos(angle) ** 2 * index / (index + 1)
    share = 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
    return 0.5 + share / 2


def _expand(probability: float, degrees: int) -> float:
    z = NormalDist().inv_cdf(probability)
    terms: tuple[float, ...] = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / float(degrees) ** power for power, term in enumerate(terms, start=1))
