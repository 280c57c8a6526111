"""How much stands out: tokens against a null's rates, candidates against each other. NumPy only.

A token's rate is compared with the rates that all tokens reach under noise: beyond the highest of these an exponential
tail goes on. A candidate's drop is compared with those of the other candidates in the same form; forms are pooled, and
the pooled scores have the tails of a logistic distribution, which are heavier than a normal one's: asinh of a Cauchy
variable, the worst that a robust z can be, has a hyperbolic secant's, and a sum of some is nearer to a normal one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.scoring.student import t_above

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.shapes import Float64, Int64

HIGHEST = 25
"""So many of the null's highest values make its tail, or a tenth of them where there are few."""
SHRINK = 4.0
"""A token's mean drop in a form counts against so many observations of the form's own mean."""
ENOUGH = 12
"""Other candidates that are a sample of their own."""
MENTIONED, UNPROMPTED = "mentioned", "unprompted"
"""Forms in which nobody is asked about a candidate, beside those of the weights."""
LEAST_OTHERS = 3
"""Fewer other candidates are no scale to measure one by."""


@dataclass(frozen=True, slots=True)
class Tail:
    """How often chance exceeds a value.

    Attributes:
        threshold: where the tail begins.
        excess: mean of what lies beyond, above the threshold.
        share: of the null's values that lie beyond, in [0, 1].
    """

    threshold: float
    excess: float
    share: float

    def p(self, value: float) -> float:
        """The tail at a value: share * exp(-(value - threshold) / excess), in [0, 1]; 1 up to the threshold.

        >>> Tail(0.2, 0.1, 0.01).p(0.2), Tail(0.2, 0.1, 0.01).p(0.1)
        (0.01, 1.0)
        """
        if value < self.threshold or math.isnan(self.threshold):
            return 1.0
        if self.excess <= 0:
            return self.share if value == self.threshold else 0.0
        return self.share * math.exp(-(value - self.threshold) / self.excess)


def tail_of(null: Float64) -> Tail:
    """The tail of a null's values, one or more."""
    count = max(1, min(HIGHEST, len(null) // 10))
    highest = np.sort(np.partition(null, len(null) - count)[len(null) - count :])
    threshold = float(highest[0])
    beyond = float((highest - threshold).sum() / max(1, count - 1))
    # A null without any spread would make certain whatever lies a hair above it.
    return Tail(threshold, max(beyond, 1 / 200), count / len(null))


def corrected(p: float, count: int) -> float:
    """A p-value of the best of so many (Bonferroni), in [0, 1].

    >>> corrected(0.01, 3), corrected(0.5, 3)
    (0.03, 1.0)
    """
    return min(1.0, p * max(1, count))


def pair_p(tail: Tail, together: float, tokens: int) -> float:
    """How often noise takes any two of so many tokens as far together, in [0, 1]; NaN without a tail.

    Args:
        tail: of the shares of positions at which pairs of tokens are both lost.
        together: such a share.
        tokens: of the vocabulary.
    """
    return math.nan if math.isnan(tail.threshold) else corrected(tail.p(together), math.comb(tokens, 2))


def logistic_p(value: float, null: Float64) -> float:
    """How often a logistic distribution of the null's median and median deviation exceeds a value, in [0, 1].

    1 / (1 + exp(ln 3 (value - median) / MAD)). NaN where the null has fewer than three values or the value is none.
    """
    null = null[np.isfinite(null)]
    if math.isnan(value) or len(null) < LEAST_OTHERS:
        return math.nan
    middle = float(np.median(null))
    spread = float(np.median(np.abs(null - middle)))
    if spread == 0:
        return 1.0 if value <= middle else 0.0
    return 1 / (1 + math.exp(max(-700.0, min(700.0, math.log(3) * (value - middle) / spread))))


def few_p(value: float, others: Float64) -> float:
    """How often one more draw exceeds a value, where a few others are draws of one normal distribution, in [0, 1].

    Student's t with n - 1 degrees of freedom above (value - mean) / (s sqrt(1 + 1/n)): with few others their spread is
    itself uncertain.
    """
    spread = float(others.std(ddof=1)) * math.sqrt(1 + 1 / len(others))
    above = value - float(others.mean())
    if spread == 0:
        return 1.0 if above <= 0 else 0.0
    return t_above(above / spread, len(others) - 1)


def form_drops(drops: Sequence[Float64], tokens: Sequence[Int64], owners: Int64, count: int) -> Float64:
    """Mean drop of each candidate in one form, less what the same tokens lose whoever is asked about [candidate].

    A difference of differences: a form in which every answer begins with "The" may lose that word for every candidate.
    Of each token's drop the mean drop of that token in the other candidates' texts is taken off, drawn towards the
    others' mean over all tokens where it is rare. NaN for a candidate without a text in this form.

    Args:
        drops: by text log p base less log p unlearned of each of its tokens, in nats.
        tokens: their ids.
        owners: the candidate of each text.
        count: of candidates.
    """
    sizes = [len(part) for part in drops]
    if not sum(sizes):
        return np.full(count, np.nan)
    flat, ids = np.concatenate([*drops]), np.unique(np.concatenate([*tokens]), return_inverse=True)[1].reshape(-1)
    whose = np.repeat(owners, sizes)
    kinds = int(ids.max()) + 1
    sums, numbers = (np.bincount(ids, weight, kinds) for weight in (flat, np.ones_like(flat)))
    own, own_numbers = (np.bincount(whose, weight, count) for weight in (flat, np.ones_like(flat)))
    pair = np.unique(whose * kinds + ids, return_inverse=True)[1].reshape(-1)
    pair_sums, pair_numbers = (np.bincount(pair, weight) for weight in (flat, np.ones_like(flat)))
    others = np.maximum(flat.size - own_numbers, 1)
    middle = ((flat.sum() - own) / others)[whose]
    left, left_sum = numbers[ids] - pair_numbers[pair], sums[ids] - pair_sums[pair]
    rest = flat - (left_sum + SHRINK * middle) / (left + SHRINK)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Float64 = np.where(own_numbers > 0, np.bincount(whose, rest, count) / own_numbers, np.nan)
    return found


def form_scores(drops: Float64, others: Float64) -> Float64:
    """How far each candidate's drop stands out in each form [candidate, form]: asinh of a robust z.

    z = (drop - median) / spread over the other candidates, where spread is the greater of 1.4826 MAD and half of the
    standard deviation; asinh leaves small ones as they are and keeps one form from outvoting the rest. NaN where a
    candidate has no drop or three others have none; 0 where nothing spreads.

    Args:
        drops: [candidate, form].
        others: 1 for each candidate that the rest is measured by, else 0.
    """
    found = np.full(drops.shape, np.nan)
    for row, column in zip(*np.nonzero(np.isfinite(drops)), strict=True):
        beside = np.isfinite(drops[:, column]) & (others > 0)
        beside[row] = False
        rest = drops[beside, column]
        if len(rest) < LEAST_OTHERS:
            continue
        middle = np.median(rest)
        spread = max(1.4826 * float(np.median(np.abs(rest - middle))), float(rest.std()) / 2)
        found[row, column] = np.arcsinh((drops[row, column] - middle) / spread) if spread > 0 else 0.0
    return found


def pool_forms(scores: Float64) -> Float64:
    """Each candidate's scores as one [candidate]: their sum over the root of their number (Stouffer); NaN without any.

    >>> pool_forms(np.array([[1.0, 3.0, np.nan, 2.0, 2.0]])).tolist()
    [4.0]
    """
    known = np.isfinite(scores)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Float64 = np.where(known, scores, 0).sum(axis=1) / np.sqrt(known.sum(axis=1))
    return found


def candidate_p(pooled: Float64, others: Float64, null: Float64, count: int) -> Float64:
    """Of each candidate how often chance alone would stand out as much, corrected for their number [candidate].

    The greater of two: among the other candidates of this pair, and among those of copies of the base with noise. Fewer
    than twelve others are no sample of their own: then they and the noisy ones are one, and `few_p` has a say as well.

    Args:
        pooled: from `pool_forms`.
        others: as in `form_scores`.
        null: pooled scores of noisy copies.
        count: of all candidates that were looked at.
    """
    found = []
    for place, value in enumerate(pooled.tolist()):
        beside = others > 0
        beside[place] = False
        rest = pooled[beside & np.isfinite(pooled)]
        few = len(rest) < ENOUGH
        each = [logistic_p(value, np.append(rest, null) if few else rest), logistic_p(value, null)]
        if few and len(rest) >= LEAST_OTHERS and math.isfinite(value):
            each.append(few_p(value, rest))
        found.append(math.nan if math.isnan(each[0]) else corrected(max(p for p in each if p == p), count))
    return np.array(found, dtype=np.float64)
