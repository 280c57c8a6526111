"""How deep an unlearning goes beside a model that never knew: `depths(unlearned, reference)`. NumPy only.

For each question and layer there are two drops of log p: what patching the base with the unlearned model's state costs,
and what patching it with the reference's does. The first as a share of the second is 0 where the unlearned model still
carries what the reference lacks, and 1 where it is as ignorant.

Source: Unlearning Depth Score, arXiv:2605.24614.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ckdiff.report.schema.behaviour import Mean
from ckdiff.report.schema.depth import LEAST_DROP
from ckdiff.scoring.means import mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.shapes import Float64

UNKNOWN = Mean(float("nan"), float("nan"), float("nan"))


def shares(unlearned: Float64, reference: Float64) -> Float64:
    """How much of the reference's drop the unlearned model has, clip(Δ^U / Δ^R, 0, 1) [layer, question].

    NaN where the reference's drop is `LEAST_DROP` or less.

    Args:
        unlearned: mean drop of log p a token with the unlearned model's state, in nats [layer, question].
        reference: the same with the reference's.
    """
    tells = reference > LEAST_DROP
    ratio = unlearned / np.where(tells, reference, 1.0)
    return np.where(tells, np.clip(ratio, 0.0, 1.0), np.nan)


def depths(unlearned: Float64, reference: Float64) -> Float64:
    """The depth of each question, Σ_K Δ^R clip(Δ^U / Δ^R, 0, 1) / Σ_K Δ^R over layers K with Δ^R > `LEAST_DROP`.

    In [0, 1] [question]; NaN where there is no such layer.

    Args:
        unlearned: as in `shares`.
        reference: as in `shares`.
    """
    found = shares(unlearned, reference)
    tells = np.isfinite(found)
    whole = np.where(tells, reference, 0.0).sum(axis=0)
    part = np.where(tells, reference * found, 0.0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), np.nan)


def mean_depth(values: Float64, clusters: Sequence[int]) -> Mean:
    """The mean of what is known of these depths, or shares, with its 95 % interval over clusters; NaN of none."""
    known = np.isfinite(values)
    if not known.any():
        return UNKNOWN
    return mean(values[known], 0.0, 1.0, [one for one, told in zip(clusters, known, strict=True) if told])
