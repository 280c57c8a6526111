"""Depths computed again from the drops that a report stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ckdiff.scoring.depth import depths, mean_depth, shares

if TYPE_CHECKING:
    from ckdiff.audit.verify.differences import Differences
    from ckdiff.report.schema.behaviour import Mean
    from ckdiff.report.schema.depth import DepthReport
    from ckdiff.shapes import Float64


def check_depth(stored: DepthReport, found: Differences) -> None:
    """Depths of questions and layers, their means and their intervals follow from the drops."""
    clusters = [one.cluster for one in stored.questions]
    pairs = (
        ("depth", stored.drop_unlearned, stored.drop_reference, stored.depth),
        ("depth_lens", stored.lens_unlearned, stored.lens_reference, stored.depth_lens),
    )
    for name, unlearned, reference, whole in pairs:
        again = depths(unlearned, reference)
        found.arrays(f"depth/questions: {name}", np.array([getattr(one, name) for one in stored.questions]), again)
        found.arrays(f"depth: {name}", _ends(whole), _ends(mean_depth(again, clusters)))
    told = shares(stored.drop_unlearned, stored.drop_reference)
    layers = np.isfinite(told).sum(axis=0)
    found.exact("depth/questions: layers", [one.layers for one in stored.questions], layers.tolist())
    means = [mean_depth(row, clusters) for row in told]
    for name, end in (("share", "value"), ("share_low", "low"), ("share_high", "high")):
        found.arrays(f"depth: {name}", getattr(stored, name), np.array([getattr(one, end) for one in means]))


def _ends(found: Mean) -> Float64:
    return np.array([found.value, found.low, found.high])
