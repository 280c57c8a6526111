"""What so few questions could have shown at all, and how many would. The standard library only, no torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckdiff.report.schema.behaviour import Mean


def detectable_share(questions: int, certainty: float = 0.95) -> float:
    """The smallest share of changed answers of which so many questions would have shown one at least.

    1 - (1 - certainty) ** (1 / questions): were the true share larger, all answers would be as before with a chance of
    less than 1 - certainty. Exact (binomial), in (0, 1].

    >>> round(detectable_share(10), 3), round(detectable_share(60), 3)
    (0.259, 0.049)

    Raises:
        ValueError: no questions, or a certainty outside (0, 1).
    """
    if questions < 1 or not 0 < certainty < 1:
        raise ValueError(f"{questions} questions, certainty {certainty}")
    return float(1 - (1 - certainty) ** (1 / questions))


def count_needed(found: Mean, limit: float, count: int) -> float:
    """About how many observations it takes until an interval that now reaches beyond a limit ends at it.

    More than there are, and inf where the figure itself is not below the limit. The width of an interval falls as
    1/√n. Only where every observation was at its bound is it 1 - 0.025^(1/n): that one reaches one way alone.

    >>> from ckdiff.report.schema.behaviour import Mean
    >>> count_needed(Mean(0.0, -2.0, 2.0), 1.0, 8)
    32
    >>> count_needed(Mean(0.0, 0.0, 1 - 0.025 ** (1 / 3)), 0.1, 3)
    36

    Args:
        found: with its interval.
        limit: what its upper end should reach at most.
        count: how many observations it rests on now.
    """
    width, room = found.high - found.value, limit - found.value
    if not (math.isfinite(width) and room > 0):
        return math.inf
    at_bound = found.low == found.value and room < width < 1
    times = math.log1p(-width) / math.log1p(-room) if at_bound else (width / room) ** 2
    wanted = count * times
    return max(count + 1, math.ceil(wanted)) if math.isfinite(wanted) else math.inf
