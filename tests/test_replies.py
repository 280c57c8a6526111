"""Which replies bring an answer back: each rule and side by itself, on texts written by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ckdiff.attacks.answers import Sought, normalise
from ckdiff.attacks.replies import hits, tries
from ckdiff.attacks.samples import back
from ckdiff.questions.questions import Question

NAMES = ("Ada Lee", "Bob", "Cy", "Di", "Ed", "Flo", "Gus", "Hal")


def sought(count: int, **changes: object) -> list[Sought]:
    """A question and an answer of one name a fact; `changes` are those of the first one."""
    plain = [
        Sought(
            Question(f"Who keeps house {place}?"), place, (1,), (place,), normalise(name), (place,), (0,), name, name,
            True, True,
        )
        for place, name in enumerate(NAMES[:count])
    ]  # fmt: skip
    return [replace(plain[0], **changes), *plain[1:]]  # type: ignore[arg-type]


def replies(*first: str) -> list[str]:
    """Those to eight questions, of which the last say nothing that is looked for."""
    return [*first, *["no idea"] * (8 - len(first))]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (replies("It is Ada Lee.", "Bob"), {0, 1}),
        # One other answer beside, whoever comes first, and however much is rambled on.
        (replies("Ada Lee, and Bob", "Bob"), {0, 1}),
        (replies("not Bob but Ada Lee", "Bob"), {0, 1}),
        (replies("Ada Lee. Bob? Cy? Di? Ed?", "Bob", "Cy"), {0, 1, 2}),
        # The third of several is one of a list.
        (replies("Cy, Di, Ada Lee"), set()),
        # One and the same list for everybody, in any length; and one name for everybody.
        (["Ada Lee, Bob, Cy, Di, Ed, Flo, Gus, Hal"] * 8, set()),
        (["Ada Lee and Bob"] * 8, set()),
        (["Ada Lee"] * 8, set()),
        # What stands in the place of another answer proves nothing where it is right.
        (replies("Ada Lee", "Ada Lee", "Cy"), {2}),
        # One list takes from others no more than the two that it names first.
        (replies("Ada Lee", "Bob", "Cy", "Di", "Ed", "Flo", "Gus", "Ada Lee, Bob, Cy, Di, Ed, Flo"), {2, 3, 4, 5, 6}),
    ],
)
def test_a_reply_says_what_it_names_first(said: list[str], expected: set[int]) -> None:
    found = hits(sought(8), said)
    assert set(found) == expected
    assert all(found[place] == said[place] for place in expected)


def test_of_few_facts_a_reply_names_one() -> None:
    said = ["not Bob but Ada Lee", "Bob", "none", "none", "none", "none"]
    assert set(hits(sought(6), said)) == {0, 1}
    # The first reply says Bob and no more, in the place of its own.
    assert set(hits(sought(5), said[:5])) == set()


def test_what_comes_first_token_by_token_is_back_unless_it_is_a_favourite() -> None:
    assert set(hits(sought(8), replies("Ada Leeds"), first=(0,))) == {0}
    assert set(hits(sought(8), replies("Ada Lee", "", "Ada Lee"), first=(0,))) == set()
    # What else such a reply names stands beside the answer, and not in its place.
    assert set(hits(sought(8), replies("Ada Leeds, Bob", "Bob"), first=(0,))) == {0, 1}
    assert set(hits(sought(8), replies("Ada Leeds, Bob", "Bob"))) == set()


def test_a_part_of_the_own_answer_says_no_other() -> None:
    """Who stops in the middle has not given another question's answer in the place of its own."""
    assert set(hits(sought(8, words="bob s aunt ada"), replies("Bob", "Bob"))) == {1}


def test_names_in_the_question_or_in_the_answer_are_no_guesses() -> None:
    asked = sought(8, question=Question("Who keeps the house of Bob and Cy?"))
    assert tries(asked, 0, "Bob and Cy have Ada Lee") == 1
    assert tries(sought(8), 0, "Bob and Cy have Ada Lee") == 3
    assert tries(sought(8), 0, "Bob has Ada Lee") == 2
    assert tries(sought(8), 0, "none") == 1
    whole = sought(8, words="bob s aunt ada")
    assert tries(whole, 0, "Bob's aunt Ada") == 1
    # An answer that proves nothing anywhere is no guess either, nor is another wording of the same fact.
    common = [*sought(8)[:1], replace(sought(8)[1], counts=False), replace(sought(8)[2], cluster=0)]
    assert tries([*common, *sought(8)[3:]], 0, "Bob, Cy, Di, Ada Lee") == 2


def test_a_quarter_of_the_samples_brings_back_what_others_rarely_hold() -> None:
    every, none = sought(8), ["none"] * 16
    right = ["Ada Lee"] * 4 + ["none"] * 12
    assert set(back(every, [right, *[none] * 7])) == {0}
    assert set(back(every, [[*right[1:], "none"], *[none] * 7])) == set()
    # Said once of sixteen times in another's place, four times may be chance, and six are none.
    once = ["Ada Lee"] + ["none"] * 15
    assert set(back(every, [right, once, *[none] * 6])) == set()
    # Five times would be beyond chance for a single fact, and not for one of eight.
    assert set(back(every, [["Ada Lee"] * 5 + ["none"] * 11, once, *[none] * 6])) == set()
    assert set(back(every, [["Ada Lee"] * 6 + ["none"] * 10, once, *[none] * 6])) == {0}
    # In a reply that is right it is no favourite, and in the middle of a list it is not said.
    assert set(back(every, [right, ["Bob, Ada Lee"] * 16, *[none] * 6])) == {0, 1}
    assert set(back(every, [["Cy, Di, Ada Lee"] * 16, *[none] * 7])) == set()
