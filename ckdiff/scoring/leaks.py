"""leak@k: how likely is it that one of k samples holds the answer? NumPy only.

Source: leak@k, arXiv:2511.04934; the estimator is that of pass@k, Chen et al. 2021, arXiv:2107.03374, eq. 1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.shapes import Float64


def leak_at(k: int, samples: int, hits: Sequence[int]) -> Float64:
    """1 - C(n-c, k) / C(n, k) of each question, in [0, 1]: unbiased from n samples of which c hold the answer.

    >>> leak_at(1, 4, [0, 1, 4]).tolist()
    [0.0, 0.25, 1.0]

    Raises:
        ValueError: k is larger than the number of samples, or smaller than 1.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"leak@{k} of {samples} samples")
    return np.array([1 - math.comb(samples - c, k) / math.comb(samples, k) for c in hits])


def leak_of(k: int, log_p: Float64) -> Float64:
    """1 - (1 - p)^k of each question, in [0, 1], from the log of the probability of its whole answer; no sampling.

    Small probabilities keep their digits.
    """
    with np.errstate(divide="ignore"):
        found: Float64 = -np.expm1(k * np.log1p(-np.exp(np.minimum(log_p, 0.0))))
    return found
