"""How far two models that never knew lie apart: `margins_of(report)`, of a report that has them for a pair. NumPy only.

The report is an audit of (base, a second model that never knew) beside the reference: each of its differences is one
between two models of which neither knows anything. The 95th percentile of them is how near to the knowledge chance
brings a model, and so the margin within which another counts as one that never knew.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ckdiff.errors import CkdiffError
from ckdiff.scoring.clusters import by_cluster
from ckdiff.scoring.leaks import leak_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckdiff.report.schema.attack import AttackReport
    from ckdiff.report.schema.depth import DepthReport
    from ckdiff.shapes import Float64

PERCENTILE = 95
SAMPLES = 10
"""Of which one gives the answer, as a verdict asks."""
ALIKE = 0.01
"""Nats a token: two trainings never agree so well on every answer."""


class MarginError(CkdiffError):
    """Two models that never knew which give no margin."""


class Margins(NamedTuple):
    """How far two models that never knew lie apart, by what a verdict holds side by side.

    Attributes:
        level: log p a token under one attack, in nats, over attacks.
        probability: log p a token as it is asked, in nats, over facts.
        behaviour: the chance that one of ten samples gives the answer, over facts.
        depth: what the depth of one beside the other lacks of 1, over facts.
    """

    level: float
    probability: float
    behaviour: float
    depth: float


def margins_of(attack: AttackReport, depth: DepthReport | None) -> Margins:
    """The 95th percentiles of the differences between a second model that never knew and the reference.

    Args:
        attack: of the second model, in the place of an unlearned one, beside the reference.
        depth: of the same; None: not measured.

    Raises:
        MarginError: the two are copies of each other.
    """
    rows, clusters = attack.questions, [one.cluster for one in attack.questions]
    apart = np.array([one.log_p_unlearned - one.log_p_reference for one in rows])
    if not len(rows) or not np.abs(apart).max(initial=0) > ALIKE:
        raise MarginError("--margins: its two models that never knew are too alike to be two; take one of another seed")
    chances = [leak_of(SAMPLES, np.log(np.maximum([getattr(one, f"leak_{side}") for one in rows], 1e-300)))
               for side in ("unlearned", "reference")]  # fmt: skip
    levels = [one.above.value for one in attack.rows if one.side == "unlearned" and one.decides and not one.wrecked]
    lacks = [] if depth is None else [1 - one.depth for one in depth.questions]
    return Margins(
        _percentile(levels),
        _percentile(_by_fact(apart, clusters)),
        _percentile(_by_fact(chances[0] - chances[1], clusters)),
        _percentile(lacks),
    )


def margin_of_depth(depth: DepthReport) -> float:
    """The 95th percentile of what the depth of a second model that never knew lacks of 1, over questions.

    Raises:
        MarginError: no question tells the two apart.
    """
    found = _percentile(1 - one.depth for one in depth.questions)
    if math.isnan(found):
        raise MarginError("--margins: no question of it has a depth; ask questions whose answers the base knows")
    return found


def _by_fact(values: Float64, clusters: list[int]) -> Float64:
    """The mean over the questions about each fact."""
    return by_cluster(values, clusters) / by_cluster(np.ones(len(values)), clusters)


def _percentile(values: Iterable[float]) -> float:
    """The 95th percentile of the sizes of what is known of some differences; NaN of none."""
    known = [abs(value) for value in values if math.isfinite(value)]
    return float(np.percentile(known, PERCENTILE)) if known else math.nan
