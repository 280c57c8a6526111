from __future__ import annotations

import math
from fractions import Fraction

import pytest

from ckdiff.scoring.power import detectable_share


def chance_of_none(share: Fraction, questions: int) -> Fraction:
    """That no answer of so many changes, as one minus the exact sum of the chances of one, two, ... changes."""
    some = (
        math.comb(questions, changed) * share**changed * (1 - share) ** (questions - changed)
        for changed in range(1, questions + 1)
    )
    return 1 - sum(some, Fraction(0))


@pytest.mark.parametrize("questions", [1, 2, 5, 10, 30, 60])
@pytest.mark.parametrize("certainty", [0.8, 0.95, 0.99])
def test_with_a_larger_share_nothing_changed_is_too_unlikely_and_with_a_smaller_not(
    questions: int, certainty: float
) -> None:
    share = Fraction(detectable_share(questions, certainty))
    allowed, step = 1 - certainty, Fraction(1, 10**6)
    assert chance_of_none(share + step, questions) < allowed < chance_of_none(share - step, questions)


def test_more_questions_show_smaller_shares() -> None:
    found = [detectable_share(questions) for questions in (1, 2, 5, 10, 100, 10**6)]
    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(0.95)
    assert found[-1] == pytest.approx(-math.log(0.05) / 10**6, rel=1e-5)  # the rule of three


@pytest.mark.parametrize(("questions", "certainty"), [(0, 0.95), (-1, 0.95), (10, 0.0), (10, 1.0), (10, math.nan)])
def test_what_makes_no_sense_is_refused(questions: int, certainty: float) -> None:
    with pytest.raises(ValueError, match="questions, certainty"):
        detectable_share(questions, certainty)
