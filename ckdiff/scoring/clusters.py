"""Clusters: which questions ask about one fact, and so count as one observation where uncertainty is concerned.

    by_cluster(losses, clusters)     # [..., question] -> [..., cluster], summed

Eight spellings of one question are no eight observations. Intervals therefore resample clusters, not questions: the
losses of a cluster are added up and stay together. Sums, not means: a score is the same ratio over the same questions
as without clusters, every question weighs the same, and only what is said about its uncertainty knows of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckdiff.shapes import Float64, Int64

ALONE = -1
"""The cluster of a question that belongs to none: it is one of its own (all questions of older reports)."""


def cluster_numbers(clusters: Iterable[int]) -> Int64:
    """Clusters as places 0, 1, ... in the order of their first question; what is `ALONE` has a place of its own.

    >>> cluster_numbers([7, -1, 7, -1]).tolist()
    [0, 1, 0, 2]
    """
    places: dict[tuple[int, int], int] = {}
    keys = ((cluster, number if cluster == ALONE else ALONE) for number, cluster in enumerate(clusters))
    return np.array([places.setdefault(key, len(places)) for key in keys], dtype=np.int64)


def cluster_count(clusters: Iterable[int]) -> int:
    """How many clusters there are: what may be counted as observations.

    >>> cluster_count([0, 0, 1, -1, -1])
    4
    """
    return int(cluster_numbers(clusters).max(initial=-1)) + 1


def by_cluster(values: Float64, clusters: Iterable[int] | None) -> Float64:
    """Sums over each cluster's questions [..., question] -> [..., cluster]; the same numbers where each has one."""
    numbers = None if clusters is None else cluster_numbers(clusters)
    if numbers is None or numbers.max(initial=-1) + 1 == len(numbers):
        return values
    return np.stack([values[..., numbers == place].sum(axis=-1) for place in range(int(numbers.max()) + 1)], axis=-1)
