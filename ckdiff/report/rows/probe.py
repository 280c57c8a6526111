"""The rows of a probe: one a window of each run; layer -1: a run about no single window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.schema.layout import flat
from ckdiff.report.schema.probe import BOUNDED, SCORES, Curve

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.report.schema.probe import Probe

RUN = ("direction", "mode", "variant", "window")

CURVES, BOUND = (
    tuple(score + end for score in scores for end in Curve.ENDS.values()) for scores in (SCORES, (BOUNDED,))
)

ARRAYS = ("first", "last", *CURVES, "krs_mean_of_ratios", "top1", *BOUND)
"""In the order of their columns; what is new stands behind what was there."""


def rows(found: Probe | None) -> Iterator[Sequence[object]]:
    """The names of the columns, then every window with its scores, intervals and bands."""
    yield [*RUN, "layer", *ARRAYS]
    for run in found.runs if found else ():
        values = flat(run)
        for index, layer in enumerate(run.layers.tolist()):
            at_window = (values[name][index].item() for name in ARRAYS)
            yield [*(values[name] for name in RUN), layer, *at_window]
