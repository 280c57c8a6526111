"""Means with intervals over concepts, which are the sampling unit: `average([0.2, 0.4, 0.3])`.

Pairs that were asked about one concept share its questions and its base's answers, and are no sample of anything. So
they are averaged first, and the concepts' means are what varies: mean ± t s / √n over n concepts. Bands hold at all
windows of a curve at one time: t is taken at 1 - 0.025 / windows (Bonferroni, which holds whatever the windows have in
common, and is the wider for it).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ckdiff.report.schema.behaviour import Mean
from ckdiff.report.schema.campaign import AverageRun, GroupMean
from ckdiff.report.schema.probe import SCORES, Curve
from ckdiff.scoring.scores import TAIL
from ckdiff.scoring.student import t_quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.campaign.gather.sweeps import Sweep
    from ckdiff.report.schema.campaign import CampaignRun, CellMeasure
    from ckdiff.shapes import Float64, PerLayer


CAUTION = (
    "Concepts are the sampling unit, not questions: averages have 95 % Student t intervals over concepts, and say"
    " nothing about other models. The pairs of a concept are averaged before the concepts are."
)


SHARE = (0.0, 1.0)


BOUNDS: dict[str, tuple[float, float]] = {
    "neutral_kl": (0.0, math.inf),
    "loss_kl": (0.0, math.inf),
    "explained": (-math.inf, 1.0),
}
"""By measure what it can be; the others are shares."""


class Averaged(NamedTuple):
    """An average, and whether something in it is defined in some pairs or windows only."""

    run: AverageRun
    uneven: bool


def average(values: Sequence[float] | Float64, least: float = -math.inf, most: float = math.inf) -> Mean:
    """The mean and its 95 % Student t interval, mean ± t s / √n, cut off at what such values can be.

    One value has no interval, none has no mean.

    >>> average([0.2, 0.4]).value
    0.30000000000000004
    """
    column = np.asarray(values, dtype=np.float64)
    low, high = _ends(column, _student(len(column), 1), least, most)
    return Mean(_middle(column), low, high)


def averages(rows: Float64, least: float = -math.inf, most: float = math.inf) -> Curve:
    """Every column of an array [concept, layer], each over the concepts that are not NaN there.

    Intervals are those of `average`; the band holds at all columns at one time.
    """
    columns = [column[~np.isnan(column)] for column in rows.T]
    counts = {len(column) for column in columns}
    alone, together = ({n: _student(n, windows) for n in counts} for windows in (1, len(columns)))
    found = [
        (
            _middle(column),
            *_ends(column, alone[len(column)], least, most),
            *_ends(column, together[len(column)], least, most),
        )
        for column in columns
    ]
    return Curve(*np.array(found, dtype=np.float64).reshape(-1, 5).T)


def within(values: Float64) -> Float64:
    """The mean over pairs, [pair, concept, ...] -> [concept, ...], of what is not NaN; NaN where nothing is."""
    count = (~np.isnan(values)).sum(axis=0)
    with np.errstate(invalid="ignore"):
        total = np.nansum(values, axis=0)
    middle: Float64 = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return middle


def average_run(group: str, members: Sequence[int], sweep: Sweep) -> Averaged | None:
    """One sweep of the pairs of a group; None where no pair has it, or their window centres differ.

    Args:
        group: its name.
        members: its pairs, as places on the axis of pairs.
        sweep: of all pairs.
    """
    run, own = sweep.run, set(members)
    cells = [cell for cell in sweep.axes if cell[0] in own]
    axes = {sweep.axes[cell] for cell in cells}
    if len(axes) != 1:
        return None
    layers = np.array(axes.pop(), dtype=np.int64)
    columns = np.searchsorted(run.layers, layers)
    arrays = {name: getattr(run, name).score[members][..., columns] for name in SCORES}
    arrays["top1"] = run.top1[members][..., columns]
    defined = ~np.isnan(np.concatenate([*arrays.values()], axis=-1)).all(axis=-1)
    curves = {name: averages(within(arrays[name]), *score_bounds(run)) for name in SCORES}
    top1 = averages(within(arrays["top1"]), *SHARE)
    found = AverageRun(
        group=group,
        direction=run.direction,
        mode=run.mode,
        variant=run.variant,
        window=run.window,
        pairs=int(defined.any(axis=1).sum()),
        concepts=int(defined.any(axis=0).sum()),
        layers=layers,
        **curves,
        top1=top1.score,
        top1_low=top1.low,
        top1_high=top1.high,
        top1_unrestored=_unrestored(sweep, members),
    )
    rows, concepts = [members.index(pair) for pair, _ in cells], [concept for _, concept in cells]
    return Averaged(found, any(_partly(values[rows, concepts]) for values in arrays.values()))


def score_bounds(run: CampaignRun) -> tuple[float, float]:
    """What the scores of a sweep can be: 1 - a ratio of losses, or (break) the ratio."""
    return (-math.inf, 1.0) if run.direction == "restore" else (0.0, math.inf)


def group_mean(group: str, members: Sequence[int], measure: CellMeasure) -> GroupMean | None:
    """One measure of the pairs of a group; None where no pair has it."""
    values = measure.value[members]
    defined = ~np.isnan(values)
    if not defined.any():
        return None
    concepts = within(values)
    found = average(concepts[~np.isnan(concepts)], *BOUNDS.get(measure.name, SHARE))
    pairs, count = int(defined.any(axis=1).sum()), int(defined.any(axis=0).sum())
    return GroupMean(group, measure.name, pairs, count, found.value, found.low, found.high)


def _partly(values: Float64) -> bool:
    absent = np.isnan(values)
    return bool(absent.any() and not absent.all())


def _unrestored(sweep: Sweep, members: Sequence[int]) -> float:
    concepts = within(sweep.unrestored[members])
    return _middle(concepts[~np.isnan(concepts)])


def _student(count: int, windows: int) -> float:
    """The quantile behind an interval over so many concepts that holds at so many windows; NaN for one concept."""
    return t_quantile(1 - TAIL / windows, count - 1) if count > 1 else math.nan


def _middle(column: PerLayer) -> float:
    with np.errstate(invalid="ignore"):
        return float(np.mean(column)) if len(column) else math.nan


def _ends(column: PerLayer, student: float, least: float, most: float) -> tuple[float, float]:
    """Both ends; NaN where there is one value only, or an infinite one."""
    if len(column) < 2 or not np.isfinite(column).all():
        return math.nan, math.nan
    middle = _middle(column)
    reach = student * float(np.std(column, ddof=1)) / math.sqrt(len(column))
    # A mean that rounding has put past a bound stays inside its own interval.
    return max(middle - reach, min(least, middle)), min(middle + reach, max(most, middle))
