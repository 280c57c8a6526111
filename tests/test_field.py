"""What benchmarks of the field report, against values worked out by hand and by counting."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ckdiff.scoring import field

if TYPE_CHECKING:
    from ckdiff.shapes import Float64


def logs(*values: float) -> Float64:
    return np.array([math.log(value) for value in values])


def test_a_probability_is_the_geometric_mean_over_tokens() -> None:
    assert field.probability(logs(0.5, 0.125)) == pytest.approx(0.25, rel=1e-15)
    assert field.probability(logs(0.3)) == pytest.approx(0.3, rel=1e-15)


def test_a_share_of_probability_is_of_all_answers() -> None:
    assert field.share_of_probability(math.log(0.2), [math.log(0.1), math.log(0.5)]) == pytest.approx(0.25, rel=1e-14)
    assert field.share_of_probability(-2000.0, [-2000.0, -2001.0]) == pytest.approx(1 / (2 + math.exp(-1)), rel=1e-14)


@pytest.mark.parametrize(
    ("first", "exact", "strength"),
    [("1111", 1.0, 1.0), ("0111", 0.75, 0.75), ("1011", 0.75, 0.5), ("1110", 0.75, 0.0), ("0", 0.0, 0.0)],
)
def test_memorisation_counts_and_extraction_waits_for_the_last_miss(first: str, exact: float, strength: float) -> None:
    found = np.array([one == "1" for one in first])
    assert field.exact_memorisation(found) == exact
    assert field.extraction_strength(found) == strength


def test_rouge_l_counts_words_in_their_order() -> None:
    # the longest common run of (police killed the gunman) and (the gunman police killed Bob): two words
    assert field.rouge_l("The gunman; police killed BOB.", "police killed the gunman") == pytest.approx(
        (2 / 4, 2 / 5, 4 / 9), rel=1e-15
    )
    assert field.rouge_l("BOB", "Bob") == (1.0, 1.0, 1.0)
    assert field.rouge_l("a b c d", "a x b y d") == pytest.approx((3 / 5, 3 / 4, 2 / 3), rel=1e-15)
    assert field.rouge_l("東京です", "東京だ").recall == pytest.approx(2 / 3)
    assert field.rouge_l("...", "a b") == field.rouge_l("a b", "") == (0.0, 0.0, 0.0)
    assert field.rouge_l("snake_case", "snake case") == (1.0, 1.0, 1.0)


def test_a_truth_ratio_is_of_false_answers_over_the_right_one() -> None:
    assert field.truth_ratio(math.log(0.8), [math.log(0.1), math.log(0.4)]) == pytest.approx(0.25, rel=1e-14)
    assert field.truth_ratio(-5000.0, [-1.0]) == math.inf
    ratios = np.array([0.25, 2.0, 0.0, math.inf])
    assert field.forgotten_truth(ratios).tolist() == [0.25, 0.5, 0.0, 0.0]
    assert field.kept_truth(ratios).tolist() == [0.75, 0.0, 1.0, 0.0]


def counted_p(left: list[float], right: list[float]) -> Fraction:
    """The share of all ways to divide the values whose largest gap between the two steps is at least as large."""

    def gap(one: tuple[float, ...]) -> Fraction:
        rest = list(every)
        for value in one:
            rest.remove(value)
        return max(
            abs(Fraction(sum(v <= x for v in one), len(one)) - Fraction(sum(v <= x for v in rest), len(rest)))
            for x in every
        )

    every = left + right
    ways = list(itertools.combinations(every, len(left)))
    return Fraction(sum(gap(way) >= gap(tuple(left)) for way in ways), len(ways))


def test_the_kolmogorov_smirnov_p_is_that_of_every_division() -> None:
    values = [float(value) for value in np.random.default_rng(0).permutation(9)]
    for few in (1, 2, 4, 5):
        left, right = values[:few], values[few:]
        wanted = float(counted_p(left, right))
        assert field.same_distribution(np.array(left), np.array(right)) == pytest.approx(wanted, rel=1e-13)
        assert field.same_distribution(np.array(right), np.array(left)) == pytest.approx(wanted, rel=1e-13)


def test_the_smallest_p_keeps_its_digits_and_the_largest_is_one() -> None:
    left, right = np.arange(40.0), np.arange(100.0, 150.0)
    assert field.same_distribution(left, right) == pytest.approx(2 / math.comb(90, 40), rel=1e-12)
    assert field.same_distribution(left, left) == 1.0
    assert field.same_distribution(np.array([1.0]), np.array([2.0])) == 1.0
    # scipy.stats.ks_2samp(range(10), [x + 4.5 for x in range(10)]).pvalue
    assert field.same_distribution(np.arange(10.0), np.arange(10.0) + 4.5) == pytest.approx(0.16782134274394334)


def test_min_k_is_the_mean_of_the_least_likely_tokens() -> None:
    log_p = np.array([-1.0, -5.0, -3.0, -2.0, -4.0])
    assert field.min_k(log_p, 0.4) == -4.5
    assert field.min_k(log_p) == -5.0
    assert field.min_k(log_p[:2], 0.2) == -5.0
    assert field.min_k(log_p, 0.59) == -4.5
    assert field.min_k(log_p, 1.0) == -3.0


def test_min_k_plus_is_in_deviations_from_what_is_expected() -> None:
    log_p, mean, deviation = np.array([-1.0, -6.0]), np.array([-2.0, -3.0]), np.array([0.5, 2.0])
    assert field.min_k_plus(log_p, mean, deviation, 1.0) == pytest.approx((2.0 - 1.5) / 2)
    assert field.min_k_plus(log_p, mean, deviation) == -1.5
    assert field.min_k_plus(np.array([-2.0]), np.array([-1.0]), np.zeros(1)) == pytest.approx(-1000.0)


def test_an_auc_is_the_chance_that_a_member_scores_higher() -> None:
    members, others = np.array([3.0, 1.0, 2.0]), np.array([2.0, 0.0])
    wanted = sum((m > o) + (m == o) / 2 for m in members for o in others) / 6
    assert field.member_auc(members, others) == pytest.approx(wanted)
    assert field.member_auc(others, members) == pytest.approx(1 - wanted)


def test_privacy_leaks_below_zero_where_texts_still_look_trained_on() -> None:
    assert field.privacy_leak(0.5) == 0.0
    assert field.privacy_leak(1.0) == -100.0
    assert field.privacy_leak(0.2, 0.6) == pytest.approx(100.0)


def test_a_leak_stands_beside_the_reference_or_beside_a_half() -> None:
    assert field.leak_beside(0.7, None) == field.leak_beside(0.7, math.nan) == field.privacy_leak(0.7)
    assert field.leak_beside(0.7, 0.0) == field.privacy_leak(0.7, 0.0) == pytest.approx(-70.0)
    assert math.isnan(field.leak_beside(0.7, 1.0))


def test_questions_without_a_truth_ratio_are_no_part_of_forget_quality() -> None:
    few, many, gap = np.array([0.1, 0.2, 0.3]), np.array([0.7, 0.8, 0.9, 1.0]), np.array([math.nan])
    wanted = field.same_distribution(few, many)
    for left, right in ((few, many), (np.append(few, gap), many), (few, np.append(gap, many))):
        assert field.forget_quality(left, right) == wanted
    assert math.isnan(field.forget_quality(gap, many))
    assert math.isnan(field.forget_quality(few, gap))


def test_a_truth_ratio_means_another_thing_of_what_is_to_be_forgotten_and_of_what_is_kept() -> None:
    ratios, facts = np.array([0.25, 4.0, math.nan]), [0, 1, 2]
    assert field.mean_measure("truth_ratio", ratios, facts, True).value == 0.25
    assert field.mean_measure("truth_ratio", ratios, facts, False).value == 0.375
    assert field.mean_measure("probability", ratios[:1], facts[:1], True).value == 0.25
    assert math.isnan(field.mean_measure("truth_ratio", ratios[2:], facts[2:], True).value)
