"""Means over concepts: intervals worked out another way, what pairs and concepts weigh, and how often they hold."""

from __future__ import annotations

import itertools
import math
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ckdiff.campaign.gather.averages import average, average_run, averages, group_mean, shares, within
from ckdiff.campaign.gather.sweeps import Sweep
from ckdiff.report.schema.behaviour import Mean
from ckdiff.report.schema.campaign import CampaignRun, CellMeasure
from ckdiff.report.schema.probe import Curve
from ckdiff.scoring.student import t_quantile

if TYPE_CHECKING:
    from ckdiff.shapes import Float64

NAN = math.nan
STUDENT = {
    (1, 1): 12.7062047361747, (1, 30): 381.9709907555241, (1, 100_000): 1273239.5447349,
    (2, 1): 4.302652729749464, (2, 3): 7.64880393791554, (2, 30): 24.46426816837525, (2, 80): 39.98124755805956,
    (4, 10): 5.597568367075459, (9, 1): 2.262157162798206, (9, 80): 5.123528624372639, (9, 100_000): 12.6222550187616,
    (29, 30): 3.466017093449738, (200, 500): 3.97049685150295, (201, 500): 3.97009214831253,
    (201, 100_000): 5.19526781693003, (999, 126): 3.55423140552372,
}  # fmt: skip
"""By degrees of freedom and windows t at 1 - 0.025 / windows, from mpmath's incomplete beta function in 40 digits."""


@pytest.mark.parametrize(("degrees", "windows"), STUDENT)
def test_quantiles_hold_far_out_where_bands_need_them(degrees: int, windows: int) -> None:
    assert t_quantile(1 - 0.025 / windows, degrees) == pytest.approx(STUDENT[degrees, windows], rel=5e-9)


def every_resample(values: list[float]) -> tuple[float, float]:
    """The bootstrap-t interval of a mean from every resample that there is, by plain sums; no more than 4 t wide."""
    count, middle = len(values), statistics.fmean(values)
    found = []
    for drawn in itertools.product(values, repeat=count):
        off, spread = statistics.fmean(drawn) - middle, math.sqrt(sum((one - sum(drawn) / count) ** 2 for one in drawn))
        error = spread / math.sqrt(count * (count - 1))
        found.append(off / error if error > 1e-12 else math.copysign(math.inf, off) if abs(off) > 1e-12 else 0.0)
    found.sort()
    cut, student = round(0.0125 * len(found)), t_quantile(0.975, count - 1)
    over, under = (min(max(one, student), 4 * student) for one in (found[-1 - cut], -found[cut]))
    error = statistics.stdev(values) / math.sqrt(count)
    return middle - over * error, middle + under * error


SKEWED = [0.9, 0.85, 0.95, 0.2, 0.88]


def test_average_has_the_interval_of_all_resamples() -> None:
    found, (low, high) = average(SKEWED, most=1.0), every_resample(SKEWED)
    reach = STUDENT[4, 10] / 2.0156 * statistics.stdev(SKEWED) / math.sqrt(5)  # Student's t of 4 degrees: 2.7764
    assert found.value == pytest.approx(0.756)
    # The quantile of 10,000 draws of 3125 that there are: to 5 % of a one-sided reach.
    assert found.low == pytest.approx(low, abs=0.05 * (0.756 - low))
    assert low < 0.756 - 1.5 * reach
    assert high > 1
    assert found.high == 1


def test_three_concepts_reach_as_far_as_an_interval_may() -> None:
    """One resample of nine is of one concept alone, and has no spread: the quantile is held at four times Student's."""
    values = [0.2, 0.5, 0.35]
    found = average(values, least=-4.0)
    reach = 4 * STUDENT[2, 1] * statistics.stdev(values) / math.sqrt(3)
    assert (found.value, found.low, found.high) == pytest.approx((0.35, 0.35 - reach, 0.35 + reach))


def test_shares_spread_no_more_than_zeros_and_ones_do() -> None:
    found = average([1.0] * 9 + [0.0], 0.0, 1.0)
    assert (found.low, found.high) == pytest.approx((0.5550, 0.9975), abs=5e-5)  # Clopper and Pearson's table
    rows = np.array([[1.0, NAN], [0.0, NAN], [1.0, 0.5]])
    value, low, high = shares(rows)
    assert (value[0], low[0], high[0]) == tuple(getattr(average(rows[:, 0], 0.0, 1.0), part) for part in Mean.ENDS)
    assert (value[1], low[1], high[1]) == pytest.approx((0.5, NAN, NAN), nan_ok=True)


def test_average_of_one_has_no_interval_and_of_none_no_value() -> None:
    one, none = average([0.25], most=1.0), average([], most=1.0)
    assert one.value == 0.25
    assert all(map(math.isnan, (one.low, one.high, none.value, none.low)))


def test_ends_stop_at_bounds_and_hold_the_mean() -> None:
    found = average([0.1, 0.9], 0.0, 1.0)
    assert 0 <= found.low < found.high <= 1
    past = average([-1e-9, -1e-9, -1e-9], 0.0)
    assert past.low <= past.value <= past.high


def test_infinite_values_have_no_interval() -> None:
    assert average([0.1, math.inf], 0.0).value == math.inf
    assert math.isnan(average([math.inf, -math.inf, 1.0], most=1.0).value)
    assert math.isnan(average([0.1, math.inf], 0.0).high)
    found = averages(np.array([[0.1, math.inf], [0.2, 1.0]]), 0.0, math.inf)
    assert found.score.tolist() == [pytest.approx(0.15), math.inf]
    assert np.isnan(found.high).tolist() == [False, True]


def test_equal_values_are_their_own_interval() -> None:
    found = averages(np.full((4, 3), 0.5), -math.inf, 1.0)
    for part in (found.low, found.high, found.band_low, found.band_high):
        assert part.tolist() == [0.5, 0.5, 0.5]


def test_bands_hold_intervals_and_are_those_of_one_window_where_there_is_one() -> None:
    rows = 0.5 + np.random.default_rng(3).normal(0, 0.1, (12, 30))
    found, alone = averages(rows, -math.inf, 1.0), averages(rows[:, :1], -math.inf, 1.0)
    assert (alone.low, alone.high) == (alone.band_low, alone.band_high)
    assert (found.low[0], found.high[0]) == (alone.low[0], alone.high[0])
    assert (found.band_low <= found.low).all()
    assert (found.band_high >= found.high).all()
    assert (found.band_high > found.high + 0.01).sum() > 20
    assert (found.band_low < found.low - 0.01).sum() > 20
    other = averages(1 - rows, 0.0, math.inf)
    assert other.band_low == pytest.approx(1 - found.band_high)
    assert other.low == pytest.approx(1 - found.high)


def test_what_is_not_defined_is_left_out_window_by_window() -> None:
    rows = np.array([[0.1, NAN, NAN, NAN], [0.3, 0.5, NAN, 0.2], [0.2, 0.9, NAN, NAN]])
    found = averages(rows, 0.0, math.inf)
    assert found.score == pytest.approx([0.2, 0.7, NAN, 0.2], nan_ok=True)
    reach = 4 * STUDENT[1, 1] * statistics.stdev([0.5, 0.9]) / math.sqrt(2)
    assert found.high[1] == pytest.approx(0.7 + reach)
    assert found.high[0] == pytest.approx(average(rows[:, 0], 0.0).high)
    assert np.isnan(found.high).tolist() == [False, False, True, True]
    assert np.isnan(found.band_low).tolist() == [False, False, True, True]


def test_pairs_of_a_concept_are_averaged_first() -> None:
    values = np.array([[0.0, 0.9], [0.2, NAN], [NAN, NAN], [0.4, NAN]])
    assert within(values) == pytest.approx([0.2, 0.9])
    assert np.isnan(within(np.full((2, 1), NAN))).all()


# ----------------------------------------------------------------------------------------------------- simulation


def held(found: Curve, truth: float) -> float:
    return float(((found.low <= truth) & (found.high >= truth)).mean())


def test_intervals_hold_the_truth_of_skewed_scores_where_student_does_not() -> None:
    """1000 sets of eight concepts: the standard error of a share of 0.95 is 0.007."""
    rows = 1 - np.exp(0.7 * np.random.default_rng(0).normal(size=(8, 1000)))
    found, truth = averages(rows, -math.inf, 1.0), 1 - math.exp(0.245)
    reach = t_quantile(0.975, 7) * rows.std(axis=0, ddof=1) / math.sqrt(8)
    assert held(found, truth) == pytest.approx(0.945, abs=0.02)
    assert float((np.abs(found.score - truth) <= reach).mean()) < 0.9


def test_bands_hold_at_all_windows_at_once() -> None:
    """100 sets of eight concepts at eight windows: a standard error of 0.022."""
    generator, inside, pointwise = np.random.default_rng(1), 0, 0
    for _ in range(100):
        found = averages(1 - np.exp(0.5 * generator.normal(size=(8, 8))), -math.inf, 1.0)
        truth = 1 - math.exp(0.125)
        inside += bool(((found.band_low <= truth) & (found.band_high >= truth)).all())
        pointwise += bool(((found.low <= truth) & (found.high >= truth)).all())
    assert inside >= 90
    assert pointwise < 85


def test_intervals_over_pooled_pairs_would_be_too_short() -> None:
    """Why concepts are the sampling unit: three pairs of a concept that are alike count as one."""
    generator = np.random.default_rng(2)
    concepts = generator.normal(5, 1, (5, 500))
    pairs = concepts[None] + generator.normal(0, 0.1, (3, 5, 500))
    assert held(averages(within(pairs), 0.0, math.inf), 5.0) > 0.93
    assert held(averages(pairs.reshape(15, 500), 0.0, math.inf), 5.0) < 0.85


# ----------------------------------------------------------------------------------------------------------- groups


def sweep(values: Float64, direction: str = "restore", axes: Any = None, layers: Any = None) -> Sweep:
    """A sweep whose scores are all these, [pair, concept, layer]."""
    curve = Curve(*(values,) * 5)
    there = {(int(p), int(c)): tuple(range(values.shape[2])) for p, c in np.argwhere(~np.isnan(values).all(axis=2))}
    run = CampaignRun(
        direction, "coeff", "open", 3, np.arange(values.shape[2]) if layers is None else layers, curve, curve, curve,
        np.clip(values, 0, 1),
    )  # fmt: skip
    return Sweep(run, there if axes is None else axes, np.full(values.shape[:2], 0.5))


def test_a_group_counts_what_has_a_score() -> None:
    values = np.full((4, 3, 2), NAN)
    values[0, 0], values[1, 0], values[2, 1] = (0.2, 0.4), (0.4, 0.8), (0.9, 0.1)
    found = average_run("g", [0, 1, 2, 3], sweep(values))
    assert found is not None
    assert (found.run.pairs, found.run.concepts, found.uneven) == (3, 2, False)
    assert found.run.krs_kl.score == pytest.approx([(0.3 + 0.9) / 2, (0.6 + 0.1) / 2])
    assert found.run.top1_unrestored == 0.5
    some = average_run("g", [1, 2], sweep(values))
    assert some is not None
    assert some.run.krs.score == pytest.approx([0.65, 0.45])
    assert average_run("g", [3], sweep(values)) is None


def test_a_window_without_a_score_in_one_pair_makes_it_uneven() -> None:
    values = np.array([[[0.2, NAN]], [[0.4, 0.8]]])
    found = average_run("g", [0, 1], sweep(values))
    assert found is not None
    assert found.uneven
    assert found.run.krs.score == pytest.approx([0.3, 0.8])
    assert (found.run.pairs, found.run.concepts) == (2, 1)


def test_pairs_with_other_window_centres_are_not_averaged() -> None:
    values = np.array([[[0.2, 0.3, NAN]], [[0.4, 0.5, 0.6]]])
    made = sweep(values, axes={(0, 0): (0, 1), (1, 0): (0, 1, 2)})
    assert average_run("all", [0, 1], made) is None
    first, second = average_run("a", [0], made), average_run("b", [1], made)
    assert first is not None
    assert second is not None
    assert first.run.layers.tolist() == [0, 1]
    assert first.run.krs.score.tolist() == [0.2, 0.3]
    assert second.run.layers.tolist() == [0, 1, 2]
    assert not first.uneven


def test_scores_are_cut_off_where_their_direction_ends() -> None:
    values = np.array([[[0.05], [0.95], [0.5]]])
    restore, broken = (average_run("g", [0], sweep(values, direction)) for direction in ("restore", "break"))
    assert restore is not None
    assert broken is not None
    assert restore.run.krs.high[0] == 1.0
    assert restore.run.krs.low[0] < 0
    assert broken.run.krs.low[0] == 0.0
    assert broken.run.krs.high[0] > 1
    assert (broken.run.top1_low[0], broken.run.top1_high[0]) == pytest.approx((1 - 0.94865, 0.94865), abs=1e-4)


def test_measures_of_a_concept_are_averaged_before_concepts_are() -> None:
    """Three pairs were asked about one concept and one about the other, which weigh the same."""
    values = np.array([[0.1, NAN], [0.2, NAN], [0.3, 0.8]])
    found = group_mean("g", [0, 1, 2], CellMeasure("loss_kl", values, values, values))
    assert found is not None
    assert (found.value, found.pairs, found.concepts) == pytest.approx((0.5, 3, 2))
    assert found.high == pytest.approx(0.5 + 4 * STUDENT[1, 1] * 0.3)  # of two values, not of four


@pytest.mark.parametrize(
    ("name", "low", "high"), [("target_bleu", 0.0, 1.0), ("neutral_kl", 0.0, 5.0), ("explained", -4.0, 1.0)]
)
def test_means_of_measures_stop_at_their_bounds(name: str, low: float, high: float) -> None:
    values = np.array([[0.05, 0.95, NAN], [NAN, NAN, 0.5]])
    found = group_mean("g", [0, 1], CellMeasure(name, values, values, values))
    assert found is not None
    assert (found.pairs, found.concepts) == (2, 3)
    assert found.value == pytest.approx(0.5)
    reach = 4 * STUDENT[2, 1] * 0.45 / math.sqrt(3)
    if name == "target_bleu":  # the binomial interval, between those of 1 (to 0.9057) and of 2 (to 0.9916) of 3
        assert (found.low, found.high) == pytest.approx((1 - 0.94865, 0.94865), abs=1e-4)
    else:
        assert (found.low, found.high) == pytest.approx((max(low, 0.5 - reach), min(high, 0.5 + reach)), abs=1e-3)
    assert group_mean("g", [0], CellMeasure(name, *(np.full((2, 3), NAN),) * 3)) is None
