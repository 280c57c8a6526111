from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckdiff.scoring.means import mean, mean_curve
from ckdiff.scoring.scores import curve

SHARES = st.lists(st.sampled_from([0.0, 1.0, 0.3]) | st.floats(0, 1), min_size=2, max_size=12)


def at_most(successes: int, count: int, share: float) -> float:
    """The chance of so many successes or fewer, as an exact sum."""
    p = Fraction(share)
    return float(sum(math.comb(count, k) * p**k * (1 - p) ** (count - k) for k in range(successes + 1)))


@pytest.mark.parametrize(("successes", "count"), [(1, 2), (1, 10), (9, 10), (5, 10), (7, 30), (49, 50)])
def test_zeros_and_ones_have_the_exact_binomial_interval(successes: int, count: int) -> None:
    found = mean(np.array([1.0] * successes + [0.0] * (count - successes)), 0, 1)
    assert found.value == pytest.approx(successes / count)
    assert at_most(successes, count, found.high) == pytest.approx(0.025, abs=1e-9)
    assert 1 - at_most(successes - 1, count, found.low) == pytest.approx(0.025, abs=1e-9)


def test_binomial_intervals_are_those_of_the_tables() -> None:
    found = mean(np.array([1.0] * 9 + [0.0]), 0, 1)
    assert (found.low, found.high) == pytest.approx((0.5550, 0.9975), abs=5e-5)


def test_thousands_of_questions_are_counted_too() -> None:
    found = mean((np.arange(4000) % 4 == 0).astype(np.float64), 0, 1)
    error = math.sqrt(0.25 * 0.75 / 4000)
    assert (found.low, found.high) == pytest.approx((0.25 - 1.96 * error, 0.25 + 1.96 * error), abs=5e-4)


def test_shares_in_between_have_the_narrower_end_of_both_intervals() -> None:
    values = np.array([1.0] * 7 + [0.0, 0.5, 0.5])  # eight successes of ten
    found, counted = mean(values, 0, 1), mean(np.array([1.0] * 8 + [0.0, 0.0]), 0, 1)
    resampled = curve(values[None], np.ones(10), "break")
    assert found.low == pytest.approx(max(counted.low, resampled.low[0]))
    assert found.high == pytest.approx(min(counted.high, resampled.high[0]))
    assert resampled.low[0] < counted.low


def test_shares_that_hardly_differ_have_the_interval_of_resamples() -> None:
    values = np.array([0.4, 0.5, 0.6, 0.45, 0.55, 0.5])
    found, resampled = mean(values, 0, 1), curve(values[None], np.ones(6), "break")
    assert (found.low, found.high) == pytest.approx((resampled.low[0], resampled.high[0]))
    assert found.high - found.low < 0.3


def test_equal_values_reach_as_far_as_those_that_were_missed_could_move_them() -> None:
    """Of five, a share of 1 - 0.025 ** (1/5) may be of another kind: all at one bound, or all at the other."""
    found, missed = mean(np.full(5, 2.0), -4, 6), 1 - 0.025**0.2
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 2 - 6 * missed, 2 + 4 * missed))


def test_curves_of_means_end_at_both_bounds() -> None:
    found = mean_curve(np.array([[0.0, 1.0, 1.0, 0.9], [0.0, 1.0, 0.0, 0.1]]), 0, 1)
    assert found.high.tolist() == found.band_high.tolist() == [1.0, 1.0]
    assert found.low.tolist() == found.band_low.tolist() == [0.0, 0.0]


@given(SHARES)
@settings(deadline=None, max_examples=40)
def test_the_value_is_in_its_interval_and_that_between_the_bounds(values: list[float]) -> None:
    found = mean(np.array(values), 0, 1)
    rounding = 1e-12
    assert -rounding <= found.low <= found.value + rounding
    assert found.value - rounding <= found.high <= 1 + rounding


def test_other_bounds_are_the_same_interval_stretched() -> None:
    values = np.array([0.0, 1.0, 1.0, 0.2, 0.9, 1.0])
    one, other = mean(values, 0, 1), mean(10 * values - 4, -4, 6)
    assert (other.value, other.low, other.high) == pytest.approx(
        (10 * one.value - 4, 10 * one.low - 4, 10 * one.high - 4)
    )


@pytest.mark.parametrize("count", [5, 10])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_few_exact_matches_are_held(share: float, count: int) -> None:
    """Coverage as an exact sum over all that can be drawn."""
    held = 0.0
    for successes in range(count + 1):
        found = mean(np.array([1.0] * successes + [0.0] * (count - successes)), 0, 1)
        inside = found.low <= share <= found.high
        held += inside * math.comb(count, successes) * share**successes * (1 - share) ** (count - successes)
    assert held >= 0.95


def test_values_outside_their_bounds_or_not_finite_raise_nothing() -> None:
    for values in ([5.0, 0.2, -7.0], [math.nan, 0.0, 1.0], [math.inf, 0.0, 1.0]):
        found = mean(np.array(values), 0, 1)
        assert found.low <= 1 or math.isnan(found.low)
