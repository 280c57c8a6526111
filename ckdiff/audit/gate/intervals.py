"""Figures with intervals against a limit: passed surely, failed by themselves, or not told by so few observations.

Little evidence passes for nothing. What would pass by its figure and not by the worse end of its interval is neither
passed nor failed: more questions may settle it, and the words say about how many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ckdiff.audit.gate.results import FAILED, PASSED, UNKNOWN, Result
from ckdiff.audit.verdict.rules import RULES
from ckdiff.report.schema.behaviour import Mean
from ckdiff.scoring.power import count_needed

if TYPE_CHECKING:
    from collections.abc import Sequence

TARGETS = "--questions FILE"
"""The option that asks more of what was to be unlearned."""
MOST = 100_000
"""Nobody asks more questions than that."""


class Asked(NamedTuple):
    """What an interval rests on: how many observations, what they are, and the option that gives more of them."""

    number: int
    things: str
    option: str


def hold_below(found: Sequence[Mean], limit: float, text: str, asked: Asked) -> Result:
    """Passed where every interval ends at or below a limit, failed where one figure itself is above it.

    Else inconclusive, with what would settle it. A figure that is no number is above every limit.

    Args:
        found: one or more figures with their intervals.
        limit: the most that is allowed.
        text: the check in words.
        asked: what the intervals rest on.
    """
    worse = float(np.max([one.high for one in found]))
    if worse <= limit:
        return Result(PASSED, text, worse, limit)
    if not all(one.value <= limit for one in found):
        return Result(FAILED, text, worse, limit)
    return Result(UNKNOWN, f"{text}: {_settling(found, limit, asked)}", worse, limit)


def hold_above(found: Mean, limit: float, text: str, asked: Asked) -> Result:
    """As `hold_below`, of a figure that must be at least a limit, by its lower end."""
    turned = hold_below([turn(found)], -limit, text, asked)
    return Result(turned.outcome, turned.text, -turned.value, limit)


def turn(found: Mean) -> Mean:
    """The same figure with the other sign."""
    return Mean(-found.value, -found.high, -found.low)


def _settling(found: Sequence[Mean], limit: float, asked: Asked) -> str:
    wanted = max(count_needed(one, limit, asked.number) for one in found if not one.high <= limit)
    if not wanted <= MOST:
        return f"so near it that more {asked.things} may not settle it"
    if asked.option == TARGETS:  # fewer say nothing of the knowledge, and one number is enough
        wanted = max(wanted, RULES["facts"].threshold)
    return f"{asked.number} {asked.things} are too few to tell, about {wanted:g} would settle it ({asked.option})"
