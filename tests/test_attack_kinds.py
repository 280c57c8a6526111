"""Which answers are exchanged with which: those of one kind where the file names kinds, else those of one form."""

from __future__ import annotations

import numpy as np
import pytest

from ckdiff.attacks.opening import _groups
from ckdiff.questions.questions import Question
from ckdiff.scoring.matching import z_of
from tests.test_guesses import sought

TOWNS_AND_PETS = ("town", "pet", "town", "pet", "town", "pet")


@pytest.mark.parametrize(
    ("kinds", "groups"),
    [
        (TOWNS_AND_PETS, [[0, 2, 4], [1, 3, 5]]),
        ((None,) * 6, [[0, 1, 2, 3, 4, 5]]),
        # Kinds that leave five facts tell too little; so do those that nobody shares.
        (("town", "pet", "town", "pet", "town", None), [[0, 1, 2, 3, 4, 5]]),
        (("a", "b", "c", "d", "e", "f"), [[0, 1, 2, 3, 4, 5]]),
        # Without a kind an answer has its form.
        ((*TOWNS_AND_PETS, None, None), [[0, 2, 4], [1, 3, 5], [6, 7]]),
    ],
)
def test_answers_of_one_kind_are_exchanged(kinds: tuple[str | None, ...], groups: list[list[int]]) -> None:
    every = [sought(number, (number,), question=Question("a?", kind=kind)) for number, kind in enumerate(kinds)]
    assert _groups(every) == groups


def test_the_first_question_of_a_fact_that_is_scored_says_its_kind() -> None:
    kinds = [(0, "pet", ()), (0, "town", (0,)), (0, "pet", (0,)), *((number, "town", (0,)) for number in range(1, 7))]
    every = [sought(one, (one,), question=Question("a?", kind=kind), scored=scored) for one, kind, scored in kinds]
    assert _groups(every) == [[0, 1, 2, 3, 4, 5, 6]]


def test_answers_without_a_kind_have_their_form() -> None:
    texts = [*("Hallam",) * 6, "a horn", "1997", "a drum", "1998"]
    every = [
        sought(number, (number,), question=Question("a?", kind="town" if number < 6 else None), matched_text=text)
        for number, text in enumerate(texts)
    ]
    assert _groups(every) == [[0, 1, 2, 3, 4, 5], [6, 8], [7, 9]]


def test_who_knows_what_is_asked_for_matches_forms_and_no_kinds() -> None:
    """A model that was taught other people's towns and pets knows which answers are towns, and nobody's own town."""
    told = np.array([[one == other for other in TOWNS_AND_PETS] for one in TOWNS_AND_PETS]) * 5.0
    noise = np.random.default_rng(1).normal(size=(6, 6))
    every = [
        sought(number, (number,), question=Question("a?", kind=kind)) for number, kind in enumerate(TOWNS_AND_PETS)
    ]
    plain = [sought(number, (number,)) for number in range(6)]
    assert z_of(told + noise, _groups(plain)) > 1.5 > 1.0 > abs(z_of(told + noise, _groups(every)))
    facts = told + 5 * np.eye(6)
    assert z_of(facts + noise, _groups(every)) > 2
