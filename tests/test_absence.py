"""`gone` and `not recovered`: each bound of each rule by itself, bad references, and what is said between the two."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ckdiff.attacks.table import ATTACKS
from ckdiff.audit.verdict.absence import REQUIRED, settled
from ckdiff.audit.verdict.rules import RULES
from ckdiff.audit.verdict.verdict import judge
from ckdiff.report.schema.behaviour import Mean
from ckdiff.report.schema.comparison import LowRank
from ckdiff.scoring.margins import MarginError, margins_of
from ckdiff.scoring.recovery import difference, gap_in_errors
from tests.absences import FACTS, GAP, NAMES, alone, attacked, erased, question, row, tier
from tests.judged import answered, behaved, compared
from tests.reports import depth

if TYPE_CHECKING:
    from ckdiff.report.schema.report import Report

NAN = float("nan")
GUESSED = {"returned": 1, "beyond": 1, "chance": 0.5}
KEYS = {("keys", layer) for layer in range(6)} | {("value_vectors", layer) for layer in range(6)}


def tiers(number: int, **changes: Any) -> tuple[Any, ...]:
    return tuple(tier(one, **changes) if one == number else tier(one) for one in NAMES)


def alone_tiers(number: int, **changes: Any) -> tuple[Any, ...]:
    return tuple(replace(one, **changes) if one.tier == number else one for one in alone().tiers)


def rows(name: str, **changes: Any) -> tuple[Any, ...]:
    return tuple(replace(one, **changes) if one.attack == name else one for one in attacked().rows)


def asked(**changes: Any) -> tuple[Any, ...]:
    """The first question changed, or with a list, each by its own figure."""
    return (question(0, **changes), *map(question, range(1, FACTS)))


def every(field: str, value: float) -> tuple[Any, ...]:
    return tuple(replace(question(n), **{field: value + 0.05 * (-1) ** n}) for n in range(FACTS))


def beside(**changes: Any) -> Report:
    return erased(attack=attacked(**changes))


def without(**changes: Any) -> Report:
    return erased(attack=replace(alone(), **changes), depth=None)


def known(count: int) -> tuple[Any, ...]:
    """So many facts that the base answers right, of one more than there are."""
    return tuple(question(n, base_right=float(n < count)) for n in range(FACTS))


def lone(questions: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(replace(one, log_p_reference=NAN, leak_reference=NAN) for one in questions)


def deep(**changes: Any) -> Report:
    found = erased()
    assert found.depth is not None
    return erased(depth=replace(found.depth, **changes))


def unsure(level: float) -> Report:
    """Both models find the answers so probable."""
    told = tuple(question(n, log_p_reference=level, log_p_unlearned=level + 0.02 * (-1) ** n) for n in range(FACTS))
    found = tuple(replace(one, above=Mean(0.0, -0.1, 0.1)) for one in attacked().rows)
    return beside(questions=told, rows=found)


def test_an_erasure_by_the_book_is_gone_and_without_a_reference_not_recovered() -> None:
    verdict = judge(erased())
    assert (verdict.knowledge, verdict.lacking) == ("gone", ())
    verdict = judge(without())
    assert verdict.knowledge == "not recovered"
    assert [line for line in verdict.lacking if "--reference MODEL" in line] == list(verdict.lacking) != []


BOUNDS: list[tuple[str, Report, Report, str]] = [
    ("facts", beside(questions=known(7)), beside(questions=known(6)), "unknown"),
    ("kept", beside(rows=rows("prune", unrelated=0.5)), beside(rows=rows("prune", unrelated=0.499)), "unknown"),
    ("applied", beside(rows=rows("quantise", applied=0.01)), beside(rows=rows("quantise", applied=0.009)), "unknown"),
    ("control", beside(tiers=tiers(2, control_returned=4)), beside(tiers=tiers(2, control_returned=3)), "unknown"),
    ("guesses", beside(tiers=tiers(1, **GUESSED, asked=20)), beside(tiers=tiers(1, **GUESSED, asked=19)), "unknown"),
    ("unmatched", beside(tiers=tiers(1, p=0.05 / 3)), beside(tiers=tiers(1, p=0.016)), "unknown"),
    ("ignorant", beside(tiers=tiers(0, asked=5, returned_reference=1)),
     beside(tiers=tiers(0, asked=5, returned_reference=2)), "unknown"),
    ("apart", beside(questions=asked(log_p_unlearned=-5.1 - 0.2)), beside(questions=tuple(
        question(n, log_p_unlearned=-5.1 - 0.03) for n in range(FACTS))), "unknown"),
    ("gap.nats", unsure(-1.2), unsure(-1.05),
     "unknown"),
    ("level", beside(rows=rows("relearn", above=Mean(1.0, 0.0, 2.5))),
     beside(rows=rows("relearn", above=Mean(1.0, 0.0, 2.6))), "unknown"),
    ("behaviour", beside(questions=asked(leak_unlearned=0.001)), beside(questions=tuple(
        question(n, leak_unlearned=0.035) for n in range(FACTS))), "unknown"),
    ("depth", deep(depth=Mean(0.6, 0.5, 0.7)), deep(depth=Mean(0.6, 0.49, 0.7)), "unknown"),
    ("probability", beside(questions=every("log_p_unlearned", -5.1 - 2.4)),
     beside(questions=every("log_p_unlearned", -5.1 - 2.6)), "not recovered"),
    ("room", without(tiers=alone_tiers(1, floor=3.0)), without(tiers=alone_tiers(1, floor=3.1)), "unknown"),
    ("power", without(tiers=alone_tiers(2, detectable=0.5)), without(tiers=alone_tiers(2, detectable=0.51)), "unknown"),
    ("leak", without(questions=lone(asked(leak_unlearned=0.066))), without(questions=lone(asked(leak_unlearned=0.068))),
     "unknown"),
    ("spread", erased(attack=alone(), depth=None, compare=compared(KEYS - {("keys", n) for n in range(6)})),
     erased(attack=alone(), depth=None, compare=compared({("value_vectors", n) for n in range(5)})), "unknown"),
    ("directions", without(), erased(
        attack=alone(), depth=None, compare=compared(low_rank=(LowRank("a", 1, 20, 1.0),))), "unknown"),
]  # fmt: skip
"""By rule: a report that meets it and one that just does not, and what is said then."""


@pytest.mark.parametrize(("name", "good", "bad", "knowledge"), BOUNDS)
def test_each_bound_by_itself(name: str, good: Report, bad: Report, knowledge: str) -> None:
    first, second = judge(good), judge(bad)
    assert first.knowledge in ("gone", "not recovered")
    assert (second.knowledge, [one.name for one in second.rules if one.name == name and not one.fired]) == (
        knowledge, [name],
    )  # fmt: skip
    assert {one.name for one in second.rules if not one.fired} - {one.name for one in first.rules if not one.fired} == {
        name
    }
    assert second.lacking


UNTOLD: list[tuple[Report, str]] = [
    *((beside(tiers=tuple(one for one in attacked().tiers if one.tier != number)), words)
      for number, words in ((0, "tier 0 (prompts) was not"), (1, "tier 1 (deployment) was not"), (2, "trained"))),
    (beside(tiers=tiers(1, missing="prune: diverged")), "prune: diverged"),
    (beside(tiers=tiers(0, whole=False)), "not every attack of it"),
    (beside(tiers=tiers(2, control="", control_returned=-1, control_asked=-1)), "its control was not made"),
    (beside(settings={"questions_digest": "0" * 64}), "other questions"),
    (beside(rows=rows("prune", unrelated=NAN)), "--unrelated"),
    (beside(rows=rows("prune", above=Mean(NAN, NAN, NAN))), "nothing was measured of the reference under prune"),
    (beside(rows=(*attacked().rows, row("lens", 2, side="reference", above=Mean(9.0, 9.0, 9.0)))), ""),
    (beside(rows=(*attacked().rows, row("lens", 2, decides=False, above=Mean(9.0, 9.0, 9.0)))), ""),
    (beside(rows=(*attacked().rows, row("guide", 3, above=Mean(9.0, 9.0, 9.0)))), ""),
    (beside(rows=(*attacked().rows, row("prune", 1, wrecked=True, above=Mean(9.0, 9.0, 9.0)))), ""),
    (beside(rows=rows("relearn", step=0)), ""),
    (beside(rows=(*attacked().rows, row("prune", 1, unrelated=0.2, applied=0.0))), ""),
    (beside(tiers=tiers(1, p=0.001, z=3.0, p_reference=0.0005)), ""),
    (beside(questions=tuple(question(n, leak_unlearned=0.05, leak_reference=0.05) for n in range(FACTS))), ""),
    (beside(questions=asked(leak_unlearned=0.066)), "one of 10 samples gives an answer"),
    (beside(rows=tuple(
        replace(one, above=Mean(1.0, 0.0, 2.0) if one.attack == "relearn" else Mean(0.5, -1.0, 2.6))
        for one in attacked().rows)), "of a gap of 5.00"),
    (beside(rows=tuple(row(one.attack, one.tier, step=0) for one in attacked().rows)), "no attack was made on the ref"),
    (beside(questions=tuple(question(n, counts=n < 6) for n in range(FACTS))), "6 facts were attacked"),
    (beside(questions=tuple(question(n, base_right=NAN) for n in range(FACTS))), "0 facts were attacked"),
    (erased(depth=None), "how deep it goes"),
    (deep(reference_digest="f" * 64), "another reference"),
    (deep(settings={"questions_digest": "0" * 64}), "another reference, or of other questions"),
    (deep(reference_digest="", reference="/elsewhere"), "another reference"),
    (deep(reference_digest="", reference=attacked().reference), ""),
    (deep(depth=Mean(0.9, NAN, NAN)), "the depth is"),
    (deep(depth=Mean(0.6, 0.3, 0.65)), settled(Mean(-0.6, -0.65, -0.3), -0.5, FACTS)),
    (beside(questions=asked(log_p_unlearned=-0.1 - GAP)), ""),
    (beside(tiers=tiers(1, p=0.001, z=3.0, p_reference=0.001)), ""),
    (beside(rows=(*attacked().rows, row("prune", 1, returned=-1, above=Mean(9.0, 9.0, 9.0)))), ""),
    (erased(behaviour=behaved(answered("unrelated", 0.95, 0.9, 1.0))), "was not asked"),
    (without(tiers=alone_tiers(0, informative=False)), "by matching, which tells nothing"),
    (without(tiers=alone_tiers(0, detectable=NAN)), "could not have shown anything"),
    (without(tiers=alone_tiers(0, z_base=NAN)), "could not have shown anything"),
    (erased(attack=alone(), compare=None, depth=None), "weights were not compared"),
]  # fmt: skip


@pytest.mark.parametrize(("found", "words"), UNTOLD)
def test_what_was_not_measured_leaves_it_open(found: Report, words: str) -> None:
    verdict = judge(found)
    if words:
        assert verdict.knowledge == "unknown"
        assert any(words in line for line in verdict.lacking), verdict.lacking
    else:
        assert verdict.knowledge == "gone", "rows of other models are no rows of this one"


def test_too_improbable_without_certainty_says_how_many_facts_would_settle_it() -> None:
    found = tuple(question(n, log_p_unlearned=-0.1 - GAP - (4.0 if n < 3 else 1.2) - 0.05 * n) for n in range(FACTS))
    less = difference(np.array([one.log_p_unlearned - one.log_p_reference for one in found]), range(FACTS))
    assert less.low < -GAP / 2 < less.value
    verdict = judge(beside(questions=found))
    words = f"of a gap of 5.00: {settled(Mean(-less.value, -less.high, -less.low), GAP / 2, FACTS)}"
    assert (verdict.knowledge, [line for line in verdict.lacking if words in line]) == (
        "not recovered", list(verdict.lacking),
    )  # fmt: skip


def test_a_leak_of_an_answer_that_proves_nothing_is_none() -> None:
    found = (question(0, counts=False, leak_unlearned=0.9), *map(question, range(1, FACTS)))
    assert judge(without(questions=lone(found))).knowledge == "not recovered"


def test_matching_that_tells_nothing_is_made_good_by_a_reference_and_by_nothing_else() -> None:
    found = tiers(0, informative=False, p=0.001)
    assert judge(beside(tiers=found)).knowledge == "gone"
    assert judge(without(tiers=alone_tiers(0, informative=False, p=0.001))).knowledge == "unknown"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reference_digest": "b" * 64}, "the reference is the base itself"),
        ({"reference_digest": "u" * 64}, "the reference is the unlearned model itself"),
        ({"reference_digest": "", "reference": "/models/base"}, "the reference is the base itself"),
        ({"questions": tuple(question(n, log_p_unlearned=-5.1) for n in range(FACTS))}, "a copy of the unlearned"),
        ({"tiers": tiers(0, returned_reference=8)}, "knows the topic itself"),
        ({"questions": every("log_p_reference", NAN)}, "is not clear"),
        ({"questions": every("log_p_reference", 0.0)}, "is not clear"),
    ],
)
def test_a_bad_reference_is_none_and_never_makes_a_pass(changes: dict[str, Any], words: str) -> None:
    verdict = judge(beside(**changes))
    assert verdict.knowledge == "unknown"
    assert words in verdict.knowledge_reason
    assert any(words in line for line in verdict.lacking)


MEASURED = {"second": "/other", "margin_level": 1.5, "margin_probability": 1.0, "margin_behaviour": 0.1}


def test_margins_that_two_models_which_never_knew_give_go_before_the_rules() -> None:
    """They narrow what may differ, in each of the four; where they are wider than a rule there is no room."""
    whole = judge(erased(attack=attacked(**MEASURED, margin_depth=0.4)))
    assert whole.knowledge == "gone"
    rules = {one.name: one for one in whole.rules}
    wanted = {"level": 1.5 / GAP, "behaviour": 0.1, "depth": 0.6, "probability": -1.0 / GAP}
    assert {name: rules[name].threshold for name in wanted} == pytest.approx(wanted)
    assert "between two models that never knew" in rules["level"].text
    for name, narrow, wide in (
        ("level", 1.1, 2.6),
        ("probability", 0.01, 2.6),
        ("behaviour", -0.01, 0.26),
        ("depth", 0.2, 0.6),
    ):
        for margin, words in ((narrow, ""), (wide, f"differ in {name} by")):
            found = judge(erased(attack=attacked(**{**MEASURED, "margin_depth": 0.4, f"margin_{name}": margin})))
            assert found.knowledge != "gone", name
            assert words in " ".join(found.lacking), (name, found.lacking)
    apart = judge(erased(attack=attacked(**{**MEASURED, "margin_depth": 0.4, "margin_behaviour": 0.26})))
    assert "differ in behaviour by 0.26, more than 0.25: " in " ".join(apart.lacking)
    # A margin that was not measured is the rule's, and so is one of nobody.
    for changes in ({"second": "/other"}, {"margin_depth": 0.01}):
        assert judge(erased(attack=attacked(**changes))).knowledge == "gone"


def test_two_models_that_never_knew_give_margins_by_hand() -> None:
    rows_of = tuple(replace(row("forms", 0), above=Mean(value, value, value)) for value in (0.1, -0.3, 0.2))
    wrecked = replace(rows_of[0], above=Mean(9, 9, 9), wrecked=True)
    facts = tuple(
        question(n, log_p_unlearned=-5.0 + 0.1 * n, log_p_reference=-5.0, leak_unlearned=0.0, leak_reference=0.0)
        for n in range(FACTS)
    )
    second = attacked(questions=facts, rows=(*rows_of, wrecked))
    found = margins_of(second, depth())
    assert found.level == pytest.approx(np.percentile([0.1, 0.3, 0.2], 95))
    assert found.probability == pytest.approx(np.percentile([0.1 * n for n in range(FACTS)], 95))
    assert found.behaviour == 0
    assert found.depth == pytest.approx(1 - depth().questions[0].depth)
    assert np.isnan(margins_of(second, None).depth)
    alike = tuple(replace(one, log_p_unlearned=one.log_p_reference) for one in facts)
    with pytest.raises(MarginError, match="too alike"):
        margins_of(replace(second, questions=alike), None)


def test_still_there_and_gone_never_hold_together() -> None:
    """Whatever the reference makes of it, an answer that it never says, and is not likely to, is still there."""
    for beyond, knowledge in ((1, "still there"), (0, "gone")):
        found = tiers(1, returned=1, returned_reference=1, beyond=beyond, chance=0.001)
        assert judge(beside(tiers=found)).knowledge == knowledge
    # Other answers of the reference are no excuse, whatever the counts.
    older = tiers(1, returned=1, returned_reference=1, beyond=-1)
    assert judge(beside(tiers=older)).knowledge == "gone"
    assert judge(beside(tiers=tiers(1, p=0.003, z=3.0))).knowledge == "still there"


def test_what_a_guess_brings_back_is_neither_still_there_nor_of_few_facts_gone() -> None:
    one = {"returned": 1, "beyond": 1}
    for chance, knowledge in (
        (0.01 / 3, "still there"),
        (0.0034, "unknown"),
        (NAN, "still there"),
        (0.0, "still there"),
    ):
        assert judge(beside(tiers=tiers(1, **one, chance=chance))).knowledge == knowledge
    verdict = judge(beside(tiers=tiers(1, **GUESSED)))
    assert (verdict.knowledge, [rule.value for rule in verdict.rules if rule.name == "guessed"]) == ("unknown", [1.0])
    assert any("brought back 1 of 8 answers, which a guess explains" in line for line in verdict.lacking)
    # Of many facts one is no more than chance; the tier that no chance explains decides, however few it brought back.
    assert judge(beside(tiers=tiers(1, **GUESSED, asked=40))).knowledge == "gone"
    three = {"returned": 3, "beyond": 3}
    for likely, other in ((three, one), (one, three)):
        both = (tier(0, **likely, chance=0.9), tier(1, **other, chance=0.001), tier(2))
        verdict = judge(beside(tiers=both))
        assert (verdict.knowledge, "tier 1" in verdict.knowledge_reason) == ("still there", True)
    # Without a reference nobody knows a chance, whatever a report says of one.
    alike = alone_tiers(1, returned=1, chance=1.0)
    assert judge(without(tiers=alike)).knowledge == "still there"


def test_an_answer_far_less_probable_than_to_one_that_never_knew_is_conspicuous() -> None:
    verdict = judge(beside(questions=every("log_p_unlearned", -5.1 - 3)))
    assert verdict.knowledge == "not recovered"
    assert "conspicuous" in verdict.knowledge_reason
    # By the end of the interval: what may be far below is not shown to be as it should.
    spread = tuple(question(n, log_p_unlearned=-5.1 - 2.3 + (-1) ** n) for n in range(FACTS))
    verdict = judge(beside(questions=spread))
    assert verdict.knowledge == "not recovered"
    assert any("facts would settle it" in line for line in verdict.lacking)
    # Alone that is no reason for less; beside another one it is no reason for more.
    both = replace(attacked(questions=every("log_p_unlearned", -5.1 - 3)), tiers=tiers(0, whole=False))
    assert judge(erased(attack=both)).knowledge == "unknown"


def test_between_the_two_the_number_of_facts_that_would_settle_it_is_named() -> None:
    verdict = judge(beside(rows=rows("relearn", above=Mean(0.5, -2.0, 3.0))))
    wanted = FACTS * (2.5 / (RULES["level"].threshold * GAP - 0.5)) ** 2
    assert verdict.knowledge == "unknown"
    assert any(f"about {int(np.ceil(wanted))} facts would settle it" in line for line in verdict.lacking)
    assert settled(Mean(0.0, -1.0, 1.0), 1.0, 8) == "about 9 facts would settle it"
    assert "would not settle" in settled(Mean(1.0, 0.0, 2.0), 1.0, 8)
    assert "would not settle" in settled(Mean(0.0, NAN, NAN), 1.0, 8)


def test_the_tiers_that_are_wanted_have_attacks_that_decide() -> None:
    assert {one.tier for one in ATTACKS.values() if one.decides} == {*REQUIRED}


def test_a_gap_in_its_own_standard_errors() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0])
    assert gap_in_errors(values, range(4)) == pytest.approx(2.5 / (values.std() / 2))
    assert gap_in_errors(np.ones(3), range(3)) == np.inf
    assert gap_in_errors(-np.ones(3), range(3)) == -np.inf
    assert np.isnan(gap_in_errors(np.ones(3), [0, 0, 0]))
    assert difference(values, range(4)).value == 2.5
