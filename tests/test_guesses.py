"""Answers that come back by chance: each bound and side by itself."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from ckdiff.attacks.answers import Sought
from ckdiff.attacks.case import Reading
from ckdiff.attacks.guesses import chance_of_returns, chances_of, greatest
from ckdiff.questions.questions import Question
from ckdiff.scoring.guesses import at_least


def test_the_chance_of_so_many_hits_is_that_of_every_way_to_have_them() -> None:
    chances = np.random.default_rng(0).uniform(size=6)
    for count in range(8):
        ways = (ways for ways in itertools.product((0, 1), repeat=6) if sum(ways) >= count)
        wanted = sum(np.prod(np.where(np.array(way) == 1, chances, 1 - chances)) for way in ways)
        assert at_least(count, chances) == pytest.approx(wanted, abs=1e-12)
    assert at_least(0, []) == 1.0
    assert at_least(1, []) == 0.0


def sought(cluster: int, answer: tuple[int, ...], right: bool | None = True, **changes: object) -> Sought:
    found = Sought(Question("a?"), cluster, (1,), answer, "a", answer, tuple(range(len(answer))), "a", "a", True, right)
    return replace(found, **changes)  # type: ignore[arg-type]


def reading(log_p: list[float], table: list[list[float]]) -> Reading:
    return Reading(np.zeros(len(log_p)), np.array(log_p), {}, np.array(table), 1.0, 1)


def test_a_guess_is_as_likely_as_the_answer_or_as_those_of_other_questions() -> None:
    every = [sought(0, (5, 6)), sought(1, (7,)), sought(2, (8,))]
    table = [[-3.0, -1.0, np.nan], [-4.0, -5.0, np.nan], [np.nan, np.nan, -2.0]]
    found = chances_of(every, reading([-6.0, -0.5, np.nan], table), (0, 1))
    others = (math.exp(-6.0) + math.exp(-1.0)) / 2
    assert found == pytest.approx({0: others, 1: math.exp(-0.5)})
    assert chances_of(every, reading([np.nan] * 3, [[np.nan] * 3] * 3), (2,)) == {2: 0.0}


def test_a_sentence_of_the_bases_own_is_no_guess_among_short_answers() -> None:
    table = [[-0.1, -0.1], [-0.1, -0.1]]
    for right, likely in ((True, True), (False, False), (None, False)):
        own = sought(0, (5, 6, 7, 8), right, matched=(5,), scored=(0,))
        found = chances_of([own, sought(1, (7,))], reading([-20.0, -1.0], table), (0,))
        assert (found[0] > 0.5) == likely
        assert likely or found[0] == pytest.approx(math.exp(-20.0))
    # Without an answer of its file the sentence itself is what is matched.
    found = chances_of([sought(0, (5,), None), sought(1, (7,))], reading([-20.0, -1.0], table), (0,))
    assert found[0] == pytest.approx(math.exp(-0.1))


def test_questions_of_one_fact_are_so_many_guesses() -> None:
    alike = [sought(0, (5,)), sought(0, (5,))]
    nothing = [[np.nan]]
    assert chances_of(alike, reading([math.log(0.2), math.log(0.3)], nothing), (0, 1)) == pytest.approx({0: 0.5})
    assert chances_of(alike, reading([math.log(0.7), math.log(0.8)], nothing), (0, 1)) == {0: 1.0}


def test_every_setting_is_paid_for_and_the_best_one_counts() -> None:
    guessed = {"a": {0: 0.001, 1: 0.002}, "b": {0: 0.5, 1: 0.5}}
    assert chance_of_returns({"a": {0}, "b": {1}}, guessed, {}) == pytest.approx(2 * at_least(1, (0.001, 0.002)))
    assert chance_of_returns({"a": {0}, "b": set(), "c": set()}, guessed, {}) == pytest.approx(3 * 0.002998)
    assert chance_of_returns({"a": set(), "b": {0, 1}}, guessed, {}) == pytest.approx(0.5)
    assert chance_of_returns({"a": set(), "b": {0}}, guessed, {}) == 1.0
    assert chance_of_returns({"a": set()}, guessed, {}) == 1.0
    assert chance_of_returns({"a": set()}, {}, {}) == 1.0
    assert math.isnan(chance_of_returns({"a": {0}}, {}, {}))
    # What was not made of the reference is as likely as the likeliest that was.
    assert chance_of_returns({"c": {0, 1}}, guessed, {}) == pytest.approx(0.25)
    # Whoever names two answers has guessed twice.
    twice = chance_of_returns({"a": {0}, "b": {1}}, guessed, {"a": 2})
    assert twice == pytest.approx(2 * at_least(1, (0.002, 0.004)))
    assert chance_of_returns({"b": {0, 1}}, guessed, {"b": 2}) == 1.0
    assert greatest([{0: 0.1, 1: 0.4}, {0: 0.3}]) == {0: 0.3, 1: 0.4}
