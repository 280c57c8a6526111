"""The paper's claims as data, and what was measured: `findings(campaign)`, `cosines(campaign)`, `falls(...)`.

Source: Hong et al. 2024, arXiv:2410.06606: figures 1 and 3 (the scores), section 6 (what else moved), figure 2 (BLEU).
A verdict compares the paper's own score, averaged over concepts, with the paper's bound; an interval does not enter it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ckdiff.campaign.gather.averages import average, within
from ckdiff.campaign.gather.gathering import groups_of
from ckdiff.report.schema.behaviour import Mean
from ckdiff.report.schema.probe import SCORES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pairs import Pair

    from ckdiff.report.schema.behaviour import HistoryPoint
    from ckdiff.report.schema.campaign import AverageRun, Campaign
    from ckdiff.shapes import Float64, PerLayer

HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "not measured"
RELATIONS: dict[str, Callable[[float, float], bool]] = {
    "<=": lambda value, bound: value <= bound,
    ">=": lambda value, bound: value >= bound,
    ">": lambda value, bound: value > bound,
}
LAST = 3
"""How many layers `last` is about."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A bound that the paper's score keeps.

    Attributes:
        statistic: `best`: the greatest of the averaged curve; `last`: the mean of its last three window centres.
    """

    letter: str
    text: str
    mode: str
    variant: str
    statistic: Literal["best", "last"]
    relation: str
    bound: float


CLAIMS = (
    Claim("a", "value vectors bring nothing back", "values", "open", "best", "<=", 0.001),
    Claim("a", "value vectors bring nothing back", "values", "isolated", "best", "<=", 0.001),
    Claim("b", "attention alone brings little back", "attn", "open", "best", "<=", 0.08),
    Claim("b", "attention alone brings little back", "attn", "isolated", "best", "<=", 0.2),
    Claim("c", "coefficients of the last layers bring most back", "coeff", "open", "last", ">=", 0.8),
    Claim("c", "coefficients of the last layers bring most back", "coeff", "isolated", "last", ">=", 0.8),
    Claim("d", "attention and coefficients bring nearly all back", "attn+coeff", "open", "best", ">", 0.9),
)
COSINE_BOUND = 0.999
COSINES = ("unembedding", "norms")
"""Claim (e): components that hardly move."""
TOGETHER, LOST = 0.5, 0.1
"""Claim (f), bounds of ours, since the paper shows curves: a correlation of 0.5 or more, and at least a tenth of the
unrelated BLEU is gone at the end."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A claim about a score, beside what was measured.

    Attributes:
        method: a group of the campaign, one method or all of them.
        concepts: how many there are.
        layers: window centres at which `krs` and `top1` stand; each other score has its own best.
        top1_unrestored: the unlearned model's own, to read `top1` by.
        verdict: by `krs`.
        differs: scores by which it would be otherwise.
    """

    claim: Claim
    method: str
    concepts: int
    layers: tuple[int, ...]
    krs: Mean
    krs_centred: Mean
    krs_kl: Mean
    top1: Mean
    top1_unrestored: float
    verdict: str
    differs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cosine:
    """How little a component has moved in the pair in which it moved most."""

    component: str
    method: str
    pairs: int
    least: float
    one_minus: float
    verdict: str


@dataclass(frozen=True, slots=True)
class Fall:
    """How target and unrelated BLEU went during the unlearnings of one method.

    Attributes:
        correlation: of both over the points of a history, averaged over concepts.
        target, unrelated: of the saved checkpoints.
    """

    method: str
    concepts: int
    correlation: Mean
    target: Mean
    unrelated: Mean
    verdict: str


def verdict(value: float, relation: str, bound: float) -> str:
    """Whether a value keeps a bound.

    >>> verdict(0.85, ">=", 0.8), verdict(0.0011, "<=", 0.001), verdict(float("nan"), ">", 0.9)
    ('holds', 'does not hold', 'not measured')
    """
    if math.isnan(value):
        return UNKNOWN
    return HOLDS if RELATIONS[relation](value, bound) else FAILS


# ------------------------------------------------------------------------------------------------------------- scores


def findings(found: Campaign) -> list[Finding]:
    """Every claim about a score, for each method that was probed and for all together."""
    return [
        finding(claim, run, found)
        for claim in CLAIMS
        for run in found.averages
        if (run.direction, run.mode, run.variant) == ("restore", claim.mode, claim.variant)
    ]


def finding(claim: Claim, mean: AverageRun, found: Campaign) -> Finding:
    """One claim, held against an average; where it is of several windows, each concept's are averaged first."""
    where = place(mean.krs.score, claim)
    scores = {
        name: average(samples(found, mean, name, place(getattr(mean, name).score, claim)), most=1.0) for name in SCORES
    }
    said = verdict(scores["krs"].value, claim.relation, claim.bound)
    others = {name: verdict(score.value, claim.relation, claim.bound) for name, score in scores.items()}
    return Finding(
        claim,
        mean.group,
        mean.concepts,
        tuple(mean.layers[where].tolist()),
        **scores,
        top1=average(samples(found, mean, "top1", where), 0.0, 1.0),
        top1_unrestored=mean.top1_unrestored,
        verdict=said,
        differs=tuple(name for name, other in others.items() if UNKNOWN not in (said, other) and other != said),
    )


def place(curve: PerLayer, claim: Claim) -> list[int]:
    """The places on an averaged curve that a claim is about."""
    if claim.statistic == "last":
        return list(range(len(curve)))[-LAST:]
    return [] if np.isnan(curve).all() else [int(np.nanargmax(curve))]


def samples(found: Campaign, mean: AverageRun, name: str, where: Sequence[int]) -> PerLayer:
    """A score, or `top1`, of each concept that went into an average: the mean over some of its windows."""
    key = mean.direction, mean.mode, mean.variant
    (run,) = (run for run in found.runs if (run.direction, run.mode, run.variant) == key)
    values: Float64 = run.top1 if name == "top1" else getattr(run, name).score
    columns = np.searchsorted(run.layers, mean.layers[list(where)])
    windows = within(values[groups_of(found.pairs)[mean.group]])[:, columns]
    concepts: PerLayer = windows.mean(axis=1) if len(columns) else np.full(len(windows), np.nan)
    return concepts[~np.isnan(concepts)]


# -------------------------------------------------------------------------------------------------- parameters, BLEU


def cosines(found: Campaign) -> list[Cosine]:
    """Claim (e), for each method that was compared and for all together."""
    rows = [_cosine(found, component, group) for component in COSINES for group in groups_of(found.pairs)]
    return [row for row in rows if row.pairs]


def _cosine(found: Campaign, component: str, group: str) -> Cosine:
    drift, members = found.drift, groups_of(found.pairs)[group]
    if drift is None or component not in drift.components:
        return Cosine(component, group, 0, math.nan, math.nan, UNKNOWN)
    column = drift.components.index(component)
    there = [row for row in members if not math.isnan(drift.cosine[row, column])]
    least = min((float(drift.cosine[row, column]) for row in there), default=math.nan)
    most = max((float(drift.one_minus_cosine[row, column]) for row in there), default=math.nan)
    return Cosine(component, group, len(there), least, most, verdict(least, ">", COSINE_BOUND))


def falls(found: Campaign, pairs: Sequence[Pair]) -> list[Fall]:
    """Claim (f), for each method whose history is known."""
    histories = {
        group: [pair.history for pair in pairs if pair.method == group and pair.history]
        for group in groups_of(found.pairs)
    }
    return [_fall(found, method, own) for method, own in histories.items() if own]


def _fall(found: Campaign, method: str, histories: Sequence[Sequence[HistoryPoint]]) -> Fall:
    both = average([together(history) for history in histories], -1.0, 1.0)
    means = {row.measure: Mean(row.value, row.low, row.high) for row in found.means if row.group == method}
    said = verdict(both.value, ">=", TOGETHER)
    if said == HOLDS:
        said = verdict(means["unrelated_bleu"].value, "<=", 1 - LOST)
    return Fall(method, len(histories), both, means["target_bleu"], means["unrelated_bleu"], said)


def together(history: Sequence[HistoryPoint]) -> float:
    """The correlation of target and unrelated BLEU over the points of a training, as the weights were in memory."""
    points = [point for point in history if point.state == "memory"]
    return correlation([point.target_bleu for point in points], [point.unrelated_bleu for point in points])


def correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Pearson's correlation, in [-1, 1]; NaN where there are fewer than three points, or one does not move."""
    if len(one) < 3 or len(set(one)) == 1 or len(set(other)) == 1:
        return math.nan
    return float(np.corrcoef(one, other)[0, 1])
