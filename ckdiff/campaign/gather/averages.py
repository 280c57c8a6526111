"""Means with intervals over concepts, which are the sampling unit: `averages(rows, *score_bounds(run))`.

Pairs that were asked about one concept share its questions and its base's answers, and are no sample of anything. So
they are averaged first, and the concepts' means are what varies: `scoring.means` makes of them what it makes of
questions, a bootstrap-t interval and a band that holds at all windows of a curve at one time. Student's t would do for
means that spread evenly; scores have a bound on one side and none on the other, and of very skewed ones its
intervals hold 0.77 to 0.86 (`python benchmarks/intervals.py --tables averages`).
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ckdiff.report.schema.behaviour import Mean
from ckdiff.report.schema.campaign import AverageRun, GroupMean
from ckdiff.report.schema.probe import SCORES, Curve
from ckdiff.scoring.means import mean, mean_curve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.campaign.gather.sweeps import Sweep
    from ckdiff.report.schema.campaign import CampaignRun, CellMeasure
    from ckdiff.shapes import Float64, PerLayer


CAUTION = (
    "Concepts are the sampling unit, not questions: averages have 95 % bootstrap-t intervals over concepts, and"
    " say nothing about other models. The pairs of a concept are averaged before the concepts are."
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
    """The mean over concepts that are not NaN, with the 95 % interval of `means.mean`.

    One concept has no interval, nor has an infinite value; none has no mean.

    >>> average([0.2, 0.4], most=1.0).value
    0.30000000000000004

    Args:
        values: means of concepts.
        least: the least that a value can be; it or `most` must be finite.
        most: the most that a value can be.
    """
    column = np.asarray(values, dtype=np.float64)
    column = column[~np.isnan(column)]
    if not len(column):
        return Mean(math.nan, math.nan, math.nan)
    with np.errstate(invalid="ignore"):
        middle = float(column.mean())
    return mean(column, least, most) if np.isfinite(column).all() else Mean(middle, math.nan, math.nan)


def averages(rows: Float64, least: float, most: float) -> Curve:
    """Every column of an array [concept, layer], each over the concepts that are not NaN there.

    Intervals and bands are those of `means.mean_curve`; a band holds at all columns that the same concepts have. Ends
    are NaN where one concept is left, or an infinite value; where none is, everything is.

    Args:
        rows: means of concepts.
        least: the least that a value can be.
        most: the most that a value can be.
    """
    found, known = np.full((5, rows.shape[1]), np.nan), ~np.isnan(rows)
    for pattern in np.unique(known, axis=1).T:
        if pattern.any():
            columns = (known == pattern[:, None]).all(axis=0)
            part = mean_curve(np.ascontiguousarray(rows[pattern][:, columns].T), least, most)
            found[:, columns] = [getattr(part, one.name) for one in fields(Curve)]
    return Curve(*found)


def shares(rows: Float64) -> tuple[PerLayer, PerLayer, PerLayer]:
    """Of every column of shares [concept, layer] the mean over the concepts that are not NaN there, and both ends."""
    found = [average(column, *SHARE) for column in rows.T]
    value, low, high = np.array([(one.value, one.low, one.high) for one in found]).reshape(-1, 3).T
    return value, low, high


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
    top1, top1_low, top1_high = shares(within(arrays["top1"]))
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
        top1=top1,
        top1_low=top1_low,
        top1_high=top1_high,
        top1_unrestored=_mean_unrestored(sweep, members),
    )
    rows, concepts = [members.index(pair) for pair, _ in cells], [concept for _, concept in cells]
    return Averaged(found, any(_partly(values[rows, concepts]) for values in arrays.values()))


def score_bounds(run: CampaignRun) -> tuple[float, float]:
    """The least and the greatest score that a sweep can have: 1 - a ratio of losses, or (break) the ratio."""
    return (-math.inf, 1.0) if run.direction == "restore" else (0.0, math.inf)


def group_mean(group: str, members: Sequence[int], measure: CellMeasure) -> GroupMean | None:
    """One measure of the pairs of a group; None where no pair has it."""
    values = measure.value[members]
    defined = ~np.isnan(values)
    if not defined.any():
        return None
    found = average(within(values), *BOUNDS.get(measure.name, SHARE))
    pairs, count = int(defined.any(axis=1).sum()), int(defined.any(axis=0).sum())
    return GroupMean(group, measure.name, pairs, count, found.value, found.low, found.high)


def _partly(values: Float64) -> bool:
    absent = np.isnan(values)
    return bool(absent.any() and not absent.all())


def _mean_unrestored(sweep: Sweep, members: Sequence[int]) -> float:
    return average(within(sweep.unrestored[members]), *SHARE).value
