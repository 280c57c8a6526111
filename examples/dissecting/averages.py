"""Means with intervals over concepts, which are the sampling unit: `average([0.2, 0.4, 0.3])`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.probes.scores import t_quantile
from ckdiff.report.schema import Mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.shapes import Float64

CAUTION = (
    "Concepts are the sampling unit: intervals are 95 % Student t intervals over them, and say nothing about other"
    " models. Both methods of a concept are averaged before the methods are put together."
)


def average(values: Sequence[float] | Float64, least: float = -math.inf, most: float = math.inf) -> Mean:
    """The mean and its 95 % Student t interval, mean ± t s / √n, cut off at what such values can be.

    One value has no interval, none has no mean.

    >>> average([0.2, 0.4]).value
    0.30000000000000004
    """
    count = len(values)
    if count == 0:
        return Mean(math.nan, math.nan, math.nan)
    middle = float(np.mean(values))
    if count == 1:
        return Mean(middle, math.nan, math.nan)
    reach = t_quantile(0.975, count - 1) * float(np.std(values, ddof=1)) / math.sqrt(count)
    return Mean(middle, max(middle - reach, least), min(middle + reach, most))


def averages(rows: Float64) -> list[Mean]:
    """The same of every column of an array [concept, layer] of scores."""
    return [average(column, most=1.0) for column in rows.T]


def correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Pearson's correlation, in [-1, 1]; NaN where there are fewer than three points, or one does not move."""
    if len(one) < 3 or len(set(one)) == 1 or len(set(other)) == 1:
        return math.nan
    return float(np.corrcoef(one, other)[0, 1])
