"""A mean over questions with its interval: `mean(values)`. NumPy only: a report can be checked without torch.

A bootstrap-t alone is of little use for shares of which many are exactly 0 or 1: of ten exact matches of ten it has no
spread, and of nine of ten its interval is most of [0, 1]. What lies between two bounds spreads no more than zeros and
ones of the same mean do, so that the binomial interval of their sum is a second one, and the mean lies in both.
`python benchmarks/intervals.py --tables means` simulates what they hold together.

Source: Clopper and Pearson 1934, Biometrika 26, 404-413.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.report.schema.behaviour import Mean
from ckdiff.report.schema.probe import Curve
from ckdiff.scoring.clusters import by_cluster
from ckdiff.scoring.scores import DRAWS, TAIL, curve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.shapes import Float64


def mean(
    values: Float64, least: float = -math.inf, most: float = math.inf, clusters: Sequence[int] | None = None
) -> Mean:
    """A mean over questions with its 95 % interval, by the bootstrap-t of `scores` (10,000 draws, seed 0).

    The interval ends at the bounds of what is measured, of which one at least must be finite. If both are, it is no
    wider than the exact binomial interval of the same mean (Clopper and Pearson, linear between whole numbers of
    successes), and is that one where every value is at a bound. Where all values are equal a bootstrap sees no spread
    at all: then, if both bounds are finite, it reaches as far as the mean would move by all those that so many
    questions could, with a chance of 2.5 %, have missed (0 of 8 gives [0, 0.37]), else it is the mean itself. Of one
    cluster its ends are NaN.

    Args:
        values: [question], one or more; each weighs the same.
        least: the least that a value can be.
        most: the most that a value can be.
        clusters: of the questions; they are what is resampled, and so many observations there are. A binomial interval
            counts clusters of unequal sizes as (sum of sizes)^2 / (sum of their squares), rounded down. Without it each
            question.
    """
    sizes = by_cluster(np.ones(len(values)), clusters)
    if len(sizes) == 1:
        return Mean(float(values.mean()), math.nan, math.nan)
    if not (math.isfinite(least) and math.isfinite(most)):
        return _resample(values, least, most, clusters)
    count = _observations(sizes)
    if (values == values[0]).all():
        value, missed = float(values[0]), 1 - TAIL ** (1 / count)
        return Mean(value, value - missed * (value - least), value + missed * (most - value))
    shares = by_cluster(values, clusters) / sizes
    low, high = (
        least + (most - least) * share
        for share in _binomial(np.clip((shares - least) / (most - least), 0, 1), sizes, count)
    )
    if ((shares == least) | (shares == most)).all():
        return Mean(float(values.mean()), low, high)
    found = _resample(values, least, most, clusters)
    return Mean(found.value, max(found.low, min(low, found.value)), min(found.high, max(high, found.value)))


def _observations(sizes: Float64) -> int:
    """What so many clusters of these sizes are worth where each question weighs the same; exact for sizes of 1."""
    return int(sizes.sum() ** 2 // (sizes**2).sum())


def mean_curve(
    rows: Float64, least: float, most: float, clusters: Sequence[int] | None = None, draws: int = DRAWS
) -> Curve:
    """The mean of each row [layer, question], its 95 % interval, and the 95 % band over all rows (`scores.curve`).

    Ends are cut off at the bounds, hold the mean, and are NaN of one cluster and of a row that is not finite.

    Args:
        rows: values.
        least: the least that a value can be; it or `most` must be finite.
        most: the most that a value can be.
        clusters: of the questions.
        draws: number of resamples.
    """
    # A ratio of means whose divisor is 1 for every question; what is divided must not be negative.
    flipped = not math.isfinite(least)
    found = curve(most - rows if flipped else rows - least, np.ones(rows.shape[1]), "break", clusters, draws=draws)
    parts = (found.low, found.high, found.band_low, found.band_high)
    if flipped:
        high, low, band_high, band_low = (most - part for part in parts)
    else:
        low, high, band_low, band_high = (least + part for part in parts)
    with np.errstate(invalid="ignore"):
        value = np.ascontiguousarray(rows).mean(axis=1)
    # `curve` lets no end go past the bound that distances are from; a mean that rounding has put there stays inside.
    low, band_low = (np.minimum(end, value) for end in (low, band_low))
    high, band_high = (np.maximum(np.minimum(end, most), value) for end in (high, band_high))
    return Curve(value, low, high, band_low, band_high)


def _resample(values: Float64, least: float, most: float, clusters: Sequence[int] | None) -> Mean:
    found = mean_curve(values[None], least, most, clusters)
    return Mean(*(float(part[0]) for part in (found.score, found.low, found.high)))


def _binomial(shares: Float64, sizes: Float64, count: int) -> tuple[float, float]:
    """The 95 % interval of a share, the mean of these by their sizes, of which each of so many is an observation."""
    total = math.fsum(shares) if len(shares) == count else math.fsum(shares * sizes) / math.fsum(sizes) * count
    if not math.isfinite(total):
        return 0.0, 1.0
    return 1 - _highest(count - total, count), _highest(total, count)


def _highest(successes: float, count: int) -> float:
    whole = min(int(successes), count - 1)
    below, above = _highest_of(whole, count), _highest_of(whole + 1, count)
    return below + (successes - whole) * (above - below)


@functools.lru_cache(maxsize=1024)
def _highest_of(successes: int, count: int) -> float:
    """The share above which so few successes, or fewer, have a chance of less than 2.5 %."""
    if successes == count:
        return 1.0
    found = np.arange(successes + 1)
    ways = np.array([math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) for k in found])
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        chances = np.exp(ways + found * math.log(middle) + (count - found) * math.log1p(-middle))
        low, high = (middle, high) if chances.sum() > TAIL else (low, middle)
    return high
