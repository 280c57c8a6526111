"""The paper's claims as data, and what was measured: `findings(pairs)`, `cosines(pairs)`, `behaviour(pairs)`.

Source: Hong et al. 2024, arXiv:2410.06606: figures 1 and 3 (the scores), section 6 (what else moved), figure 2 (BLEU).
A verdict compares the paper's own score, averaged over concepts, with the paper's bound; an interval does not enter it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from averages import average, correlation
from pairs import METHODS, centres, curves, probed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pairs import Pair

    from ckdiff.report.schema import HistoryPoint, Mean
    from ckdiff.shapes import Float64

HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "not measured"
RELATIONS: dict[str, Callable[[float, float], bool]] = {
    "<=": lambda value, bound: value <= bound,
    ">=": lambda value, bound: value >= bound,
    ">": lambda value, bound: value > bound,
}
LAST = 3
"""How many layers `last` is about."""
BOTH = "both"
"""What the methods together are called."""


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
        method: a method, or `BOTH`.
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
    top1_unrestored: Mean
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


def findings(pairs: Sequence[Pair]) -> list[Finding]:
    """Every claim about a score, for each method that was probed and for all together."""
    there = [method for method in METHODS if probed(pairs, method)]
    groups = [(method, probed(pairs, method)) for method in there]
    groups += [(BOTH, probed(pairs))] if len(there) > 1 else []
    return [finding(claim, method, group) for claim in CLAIMS for method, group in groups]


def finding(claim: Claim, method: str, pairs: Sequence[Pair]) -> Finding:
    """One claim, held against some pairs."""
    layers = centres(pairs, claim.mode, claim.variant)
    columns = {name: curves(pairs, claim.mode, claim.variant, name) for name in ("krs", "krs_centred", "krs_kl")}
    scores = {name: average(at(rows, place(rows, claim)), most=1.0) for name, rows in columns.items()}
    where = place(columns["krs"], claim)
    top1 = at(curves(pairs, claim.mode, claim.variant, "top1"), where)
    said = verdict(scores["krs"].value, claim.relation, claim.bound)
    others = {name: verdict(mean.value, claim.relation, claim.bound) for name, mean in scores.items()}
    return Finding(
        claim,
        method,
        len(top1),
        tuple(layers[where].tolist()),
        **scores,
        top1=average(top1, 0.0, 1.0),
        top1_unrestored=average(unrestored(pairs, claim), 0.0, 1.0),
        verdict=said,
        differs=tuple(name for name, other in others.items() if UNKNOWN not in (said, other) and other != said),
    )


def place(rows: Float64, claim: Claim) -> list[int]:
    """The columns of an array [concept, layer] that a claim is about."""
    count = rows.shape[1]
    if not rows.size or claim.statistic == "last":
        return list(range(max(0, count - LAST), count)) if rows.size else []
    middle = rows.mean(axis=0)
    return [] if np.isnan(middle).all() else [int(np.nanargmax(middle))]


def at(rows: Float64, columns: Sequence[int]) -> Float64:
    """The mean of each concept over some columns of an array [concept, layer]; NaN where there are none."""
    return rows[:, columns].mean(axis=1) if columns else np.full(len(rows), np.nan)


def unrestored(pairs: Sequence[Pair], claim: Claim) -> list[float]:
    """The unlearned model's `top1` of each concept, its methods averaged."""
    found: dict[str, list[float]] = {}
    for pair in pairs:
        if pair.run(claim.mode, claim.variant) is not None and pair.report.probe is not None:
            found.setdefault(pair.concept, []).append(pair.report.probe.loss_unlearned.top1)
    return [float(np.mean(values)) for values in found.values()]


# -------------------------------------------------------------------------------------------------- parameters, BLEU


def cosines(pairs: Sequence[Pair]) -> list[Cosine]:
    """Claim (e), for each method that was compared and for all together."""
    compared = [pair for pair in pairs if pair.report.compare is not None]
    there = [method for method in METHODS if any(pair.method == method for pair in compared)]
    groups = {method: [pair for pair in compared if pair.method == method] for method in there}
    groups |= {BOTH: compared} if len(there) > 1 else {}
    found = [_cosine(component, method, group) for component in COSINES for method, group in groups.items()]
    return [row for row in found if row.pairs]


def _cosine(component: str, method: str, pairs: Sequence[Pair]) -> Cosine:
    rows = [
        row.drift
        for pair in pairs
        if pair.report.compare is not None
        for row in pair.report.compare.components
        if row.component == component
    ]
    least = min((row.cosine for row in rows), default=math.nan)
    most = max((row.one_minus_cosine for row in rows), default=math.nan)
    return Cosine(component, method, len(rows), least, most, verdict(least, ">", COSINE_BOUND))


def behaviour(pairs: Sequence[Pair]) -> list[Fall]:
    """Claim (f), for each method whose history is known."""
    groups: dict[str, dict[str, Sequence[HistoryPoint]]] = {method: {} for method in METHODS}
    for pair in pairs:
        if pair.report.behaviour is not None and pair.report.behaviour.history:
            groups[pair.method][pair.concept] = pair.report.behaviour.history
    return [_fall(method, histories) for method, histories in groups.items() if histories]


def _fall(method: str, histories: Mapping[str, Sequence[HistoryPoint]]) -> Fall:
    both = average([together(history) for history in histories.values()], -1.0, 1.0)
    target, unrelated = (
        average([getattr(history[-1], name) for history in histories.values()], 0.0, 1.0)
        for name in ("target_bleu", "unrelated_bleu")
    )
    said = verdict(both.value, ">=", TOGETHER)
    if said == HOLDS:
        said = verdict(unrelated.value, "<=", 1 - LOST)
    return Fall(method, len(histories), both, target, unrelated, said)


def together(history: Sequence[HistoryPoint]) -> float:
    """The correlation of target and unrelated BLEU over the points of a training, as the weights were in memory."""
    points = [point for point in history if point.state == "memory"]
    return correlation([point.target_bleu for point in points], [point.unrelated_bleu for point in points])
