"""Matching: do answers go with their own questions better than with those of others? NumPy only.

    shuffled = pairings(groups)                       # ways to pair questions with answers, the true one first
    found = match_tables(tables, shuffled, groups)    # z and p of each table, and p of the best of them

A table holds T[i, j] = mean log p a token of answer j to question i, over clusters of questions. How far its diagonal
lies above random pairings needs no model to compare with: what a question or an answer has by itself is the same in
every pairing, and so is whatever a training gains in mere format. Answers are exchanged within groups only, such as
those of one type, since elsewhere the type gives the pairing away.

The best of several tables is a selected one. Its p-value is that of the greatest z over all tables within the same
pairings, so that it costs nothing to look at many settings but power.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from ckdiff.shapes import Float64, Int64

    Groups = Sequence[Sequence[int]]


EXACT = 5040
"""So many pairings are looked at one by one (all those of seven clusters); of more, `DRAWS` at random."""
DRAWS = 9_999
LARGEST = 12
"""Clusters of one group at most: a table costs a forward for every pair within a group."""
LEAST = 6
"""Clusters that matching takes at least: of five, the best pairing of all is one in 120."""
LEVEL = 0.01
"""The p-value from which a table counts as matched, here where power is computed; a verdict has rules of its own."""
SPREADLESS = 1e-12
"""Variances below this are rounding: answers that are all alike."""


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """How clearly tables match.

    Attributes:
        z: of each table [table]: (diagonal - mean over pairings) / their standard deviation; NaN where none differs.
        p: of each table alone [table], in (0, 1]; NaN where z is.
        best: the number of the table with the greatest z; -1 where no z is defined.
        selected: the p-value of that z against the greatest of all tables in each pairing; NaN without one.
        threshold: the z that the greatest of all tables passes by chance in `level` of the pairings.
    """

    z: Float64
    p: Float64
    best: int
    selected: float
    threshold: float


def groups_of(kinds: Sequence[Hashable], largest: int = LARGEST) -> list[list[int]]:
    """Numbers of clusters whose answers may be exchanged: of one kind, in groups of like size of at most so many.

    >>> groups_of(["year", "name", "name", "year", "place"], largest=12)
    [[0, 3], [1, 2]]
    """
    found: list[list[int]] = []
    for kind in dict.fromkeys(kinds):
        same = [number for number, one in enumerate(kinds) if one == kind]
        parts = -(-len(same) // largest)
        found += [same[part::parts] for part in range(parts)]
    return [group for group in found if len(group) > 1]


def pairings(groups: Groups, seed: int = 0) -> Int64:
    """Pairings of questions with answers [pairing, place], the true one first; places are those of `flat(groups)`.

    All of them where they are few, else as many as `DRAWS` at random and the true one.
    """
    count = math.prod(math.factorial(len(group)) for group in groups)
    starts = np.cumsum([0, *map(len, groups)])
    if count <= EXACT:
        each = [itertools.permutations(range(first, first + len(group))) for first, group in zip(starts, groups)]  # noqa: B905
        return np.array([list(itertools.chain(*one)) for one in itertools.product(*each)], dtype=np.int64)
    generator = np.random.default_rng(seed)
    blocks = []
    for first, group in zip(starts, groups):  # noqa: B905
        order = np.tile(np.arange(first, first + len(group)), (DRAWS + 1, 1))
        order[1:] = generator.permuted(order[1:], axis=1)
        blocks.append(order)
    return np.concatenate(blocks, axis=1).astype(np.int64)


def flat(groups: Groups) -> list[int]:
    """The clusters of all groups, group by group."""
    return [number for group in groups for number in group]


def match_tables(tables: Float64, shuffled: Int64, groups: Groups, level: float = LEVEL) -> Matched:
    """The z and p of each table, and what the best of them is worth.

    Args:
        tables: [table, cluster, cluster]; what lies outside the groups is not looked at.
        shuffled: of `pairings` of the same groups.
        groups: as `groups_of` gives them.
        level: of `Matched.threshold`.
    """
    places = flat(groups)
    inner = tables[:, places][:, :, places]
    mean, spread = _moments(inner, groups)
    rows = np.arange(len(places))
    values = np.stack([table[rows, shuffled].sum(axis=1) for table in inner]) if len(inner) else np.zeros((0, 1))
    known = spread**2 > SPREADLESS
    z = np.full(values.shape, np.nan)
    z[known] = (values[known] - mean[known, None]) / spread[known, None]
    p = np.array([_share(row) for row in z])
    if not known.any():
        return Matched(z[:, 0], p, -1, math.nan, math.nan)
    greatest = z[known].max(axis=0)
    threshold = float(np.quantile(greatest, 1 - level, method="higher"))
    return Matched(z[:, 0], p, int(np.nanargmax(z[:, 0])), _share(greatest), threshold)


def detectable(none: Float64, full: Float64, threshold: float, groups: Groups) -> float:
    """The smallest share of the way from one table to another whose z passes a threshold; NaN where none does.

    Args:
        none: the table of a model without the answers [cluster, cluster].
        full: that of a model which has them.
        threshold: a z.
        groups: within which answers are exchanged.
    """

    def passes(share: float) -> bool:
        return z_of((1 - share) * none + share * full, groups) >= threshold

    if math.isnan(threshold) or not passes(1.0):
        return math.nan
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def z_of(table: Float64, groups: Groups) -> float:
    """How many standard deviations the diagonal of one table lies above the mean of its pairings."""
    places = flat(groups)
    inner = table[np.ix_(places, places)][None]
    (mean,), (spread,) = _moments(inner, groups)
    return float((np.trace(inner[0]) - mean) / spread) if spread**2 > SPREADLESS else math.nan


def _moments(inner: Float64, groups: Groups) -> tuple[Float64, Float64]:
    """Mean and standard deviation over all pairings of the sum of each table's paired cells, exactly.

    Source: Hoeffding 1951, Annals of Mathematical Statistics 22, 558-566, theorem 2.
    """
    mean, variance = np.zeros(len(inner)), np.zeros(len(inner))
    first = 0
    for group in groups:
        part = inner[:, first : first + len(group), first : first + len(group)]
        first += len(group)
        own = part - part.mean(axis=1, keepdims=True) - part.mean(axis=2, keepdims=True)
        own = own + part.mean(axis=(1, 2), keepdims=True)
        mean += part.mean(axis=(1, 2)) * len(group)
        variance += (own**2).sum(axis=(1, 2)) / (len(group) - 1)
    return mean, np.sqrt(variance)


def _share(values: Float64) -> float:
    """The share of pairings that do as well as the true one, which is the first; it is one of them."""
    if np.isnan(values[0]):
        return math.nan
    return float(np.mean(values >= values[0] - 1e-9 * max(1.0, abs(float(values[0])))))
