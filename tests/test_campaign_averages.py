"""Means over concepts: the quantiles behind them, what pairs and concepts weigh, and how often intervals hold."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ckdiff.campaign.gather.averages import average, average_run, averages, group_mean, within
from ckdiff.campaign.gather.sweeps import Sweep
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


def test_average_is_student_t() -> None:
    values = [0.2, 0.5, 0.35]
    found = average(values)
    reach = STUDENT[2, 1] * statistics.stdev(values) / math.sqrt(3)
    assert found.value == pytest.approx(0.35)
    assert (found.low, found.high) == pytest.approx((0.35 - reach, 0.35 + reach))


def test_average_of_one_has_no_interval_and_of_none_no_value() -> None:
    assert average([0.25]).value == 0.25
    assert all(map(math.isnan, (average([0.25]).low, average([0.25]).high, average([]).value, average([]).low)))


def test_ends_stop_at_bounds_and_hold_the_mean() -> None:
    found = average([0.0, 1.0], 0.0, 1.0)
    assert (found.low, found.high) == (0.0, 1.0)
    past = average([-1e-9, -1e-9, -1e-9], 0.0)
    assert past.low <= past.value <= past.high


def test_infinite_values_have_no_interval() -> None:
    assert average([0.1, math.inf]).value == math.inf
    assert math.isnan(average([math.inf, -math.inf, 1.0]).value)
    assert math.isnan(average([0.1, math.inf]).high)


def test_equal_values_are_their_own_interval() -> None:
    found = averages(np.full((4, 3), 0.5))
    for part in (found.low, found.high, found.band_low, found.band_high):
        assert part.tolist() == [0.5, 0.5, 0.5]


def test_bands_are_wider_by_the_quantile_and_equal_to_intervals_of_one_window() -> None:
    rows = np.random.default_rng(3).normal(0, 0.1, (3, 30))
    found = averages(rows)
    wider = (found.band_high - found.score) / (found.high - found.score)
    assert wider == pytest.approx(np.full(30, STUDENT[2, 30] / STUDENT[2, 1]))
    alone = averages(rows[:, :1])
    assert (alone.low, alone.high) == (alone.band_low, alone.band_high)


def test_what_is_not_defined_is_left_out_window_by_window() -> None:
    rows = np.array([[0.1, NAN, NAN, NAN], [0.3, 0.5, NAN, 0.2], [0.2, 0.9, NAN, NAN]])
    found = averages(rows)
    assert found.score == pytest.approx([0.2, 0.7, NAN, 0.2], nan_ok=True)
    reach = STUDENT[1, 1] * statistics.stdev([0.5, 0.9]) / math.sqrt(2)
    assert found.high[1] == pytest.approx(0.7 + reach)
    assert np.isnan(found.high).tolist() == [False, False, True, True]
    assert np.isnan(found.band_low).tolist() == [False, False, True, True]


def test_pairs_of_a_concept_are_averaged_first() -> None:
    values = np.array([[0.0, 0.9], [0.2, NAN], [NAN, NAN], [0.4, NAN]])
    assert within(values) == pytest.approx([0.2, 0.9])
    assert np.isnan(within(np.full((2, 1), NAN))).all()


# ----------------------------------------------------------------------------------------------------- simulation


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """4000 sets of five concepts: the standard error of a share of 0.95 is 0.0034."""
    rows = np.random.default_rng(0).normal(0.3, 0.2, (5, 4000))
    found = averages(rows)
    assert ((found.low <= 0.3) & (found.high >= 0.3)).mean() == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize("common", [0.0, 0.9])
def test_bands_hold_at_all_windows_at_least_as_often_as_they_say(common: float) -> None:
    """600 sets of four concepts and eight windows, which have nothing or most in common: 0.95 - 2.4 standard errors."""
    generator, held, pointwise = np.random.default_rng(1), 0, 0
    for _ in range(600):
        shared, own = generator.normal(0, 1, (4, 1)), generator.normal(0, 1, (4, 8))
        found = averages(common * shared + math.sqrt(1 - common**2) * own)
        held += bool(((found.band_low <= 0) & (found.band_high >= 0)).all())
        pointwise += bool(((found.low <= 0) & (found.high >= 0)).all())
    assert held / 600 >= 0.93
    assert pointwise / 600 < 0.9


def test_intervals_over_pooled_pairs_would_be_too_short() -> None:
    """Why concepts are the sampling unit: three pairs of a concept that are alike count as one."""
    generator = np.random.default_rng(2)
    concepts = generator.normal(0, 1, (5, 2000))
    pairs = concepts[None] + generator.normal(0, 0.1, (3, 5, 2000))
    right, pooled = averages(within(pairs)), averages(pairs.reshape(15, 2000))

    def held(found: Curve) -> float:
        return float(((found.low <= 0) & (found.high >= 0)).mean())

    assert held(right) == pytest.approx(0.95, abs=0.02)
    assert held(pooled) < 0.85


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
    assert (broken.run.top1_low[0], broken.run.top1_high[0]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("name", "low", "high"), [("target_bleu", 0.0, 1.0), ("neutral_kl", 0.0, 1.644), ("explained", -0.644, 1.0)]
)
def test_means_of_measures_stop_at_their_bounds(name: str, low: float, high: float) -> None:
    values = np.array([[0.05, 0.95, NAN], [NAN, NAN, 0.5]])
    found = group_mean("g", [0, 1], CellMeasure(name, values, values, values))
    assert found is not None
    assert (found.pairs, found.concepts) == (2, 3)
    assert found.value == pytest.approx(0.5)
    reach = STUDENT[2, 1] * 0.45 / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((max(low, 0.5 - reach), min(high, 0.5 + reach)), abs=1e-3)
    assert group_mean("g", [0], CellMeasure(name, *(np.full((2, 3), NAN),) * 3)) is None
