"""The verdict: each label for what it is meant for, each rule at its threshold, and nothing by the raw score."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ckdiff.attacks.forms import AS_ASKED
from ckdiff.audit.judge import judge_report
from ckdiff.audit.verdict import verdict as module
from ckdiff.audit.verdict.case import Case
from ckdiff.audit.verdict.evidence import Evidence
from ckdiff.audit.verdict.knowledge import PLAINLY
from ckdiff.audit.verdict.location import Place, locate, place_text
from ckdiff.audit.verdict.rules import RULES
from ckdiff.audit.verdict.verdict import DECISIONS, judge
from ckdiff.modes import MODES, SUBSETS, decisive, everywhere, of_role
from ckdiff.options import UNCHATTED
from ckdiff.report.schema.comparison import COMPONENTS, ConfigChange, LowRank, Uncompared
from ckdiff.report.schema.probe import Control, Curve
from ckdiff.report.schema.verdict import LABELS
from ckdiff.report.words.commands import TURNED
from ckdiff.scoring.settings import GIVEN, GREEDY
from tests.absences import alone, attacked, erased, tier
from tests.judged import (
    ANCILLARY,
    EDITED,
    LAYERS,
    SUPPRESSED,
    answered,
    at_layer,
    behaved,
    both,
    compared,
    probed,
    report,
)
from tests.reports import attack_row, attacks, empty_comparison, identical_comparison, same

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.report.schema.behaviour import Behaviour
    from ckdiff.report.schema.probe import Probe
    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Verdict

KEPT = behaved(answered("target", 1.0, 0.7, 1.0, same=10))
FOREIGN = compared(cosine=0.02, ends_geometry=0.4)
TWO = {**both("values", 0.45, 0.5), **both("keys", 0.5, 0.6), **both("attn+coeff", 0.6, 0.5), **both("mlp", 0.7, 0.7)}


def suppressed(**more: Any) -> Report:
    return report(**{"compare": compared(), "probe": probed(SUPPRESSED), "behaviour": behaved(), **more})


def one_way(found: Probe) -> Probe:
    return replace(found, runs=tuple(run for run in found.runs if run.direction == "restore"))


def without(found: Probe, *modes: str) -> Probe:
    return replace(found, runs=tuple(run for run in found.runs if run.mode not in modes))


def windows_only(found: Probe) -> Probe:
    return replace(found, runs=tuple(run for run in found.runs if run.variant == "open"))


def said(
    base: Sequence[str], given: str = "Ada", ids: tuple[int, ...] = (5, 6), other: Sequence[str] = ()
) -> Behaviour:
    """Target answers of the base in words, each beside the answer that its file gives, and what the other model says.

    Without `other` that one says something else to every question.
    """
    target = answered("target", 0.1, 0.0, 0.3, count=len(base))
    rows = tuple(
        replace(row, answer_base=text, answer_base_ids=ids, answer_given=given, answer_unlearned=reply)
        for row, text, reply in zip(target.questions, base, other or ["no"] * len(base), strict=True)
    )
    return behaved(replace(target, questions=rows))


def heard(found: Behaviour, tokens: int, *notes: str) -> Behaviour:
    """The same with answers of at most so many tokens, and notes."""
    return replace(found, settings={"tokens": str(tokens)}, notes=notes)


def named(*base: str) -> Behaviour:
    """What the base says to five questions, each of which has an answer of two words."""
    (found,) = said(base).answers
    names = ("Ada Lee", "Bea Kay", "Cid Fox", "Dan Oak", "Eve Ash")
    rows = [replace(row, answer_given=name) for row, name in zip(found.questions, names, strict=True)]
    return behaved(replace(found, questions=tuple(rows)))


CASES: list[tuple[str, str, Report, str, tuple[int, ...]]] = [
    ("nothing at all", "inconclusive", report(), "", ()),
    ("nothing compared", "inconclusive", report(compare=empty_comparison()), "", ()),
    ("identical", "identical", report(compare=identical_comparison()), "", ()),
    (
        "no answer changed",
        "no effect on these questions",
        suppressed(probe=probed(SUPPRESSED, changed=0), behaviour=KEPT),
        "",
        (),
    ),
    ("two ways that contradict", "suppressed", suppressed(probe=probed(SUPPRESSED, changed=0)), "coefficients", (4,)),
    (
        "not probed, same answers",
        "no effect on these questions",
        report(compare=compared(), behaviour=behaved(answered("target", 1.0, 0.7, 1.0, same=10))),
        "",
        (),
    ),
    ("a control failed", "inconclusive", suppressed(probe=probed(SUPPRESSED, controls=())), "", ()),
    ("swapped", "inconclusive", suppressed(behaviour=said(["Bob"] * 8, other=["Ada"] * 8)), "", ()),
    ("not probed", "inconclusive", report(compare=compared(), behaviour=behaved()), "", ()),
    ("only compared", "inconclusive", report(compare=compared()), "", ()),
    ("two questions", "inconclusive", suppressed(probe=probed(SUPPRESSED, count=2)), "", ()),
    ("suppressed", "suppressed", suppressed(), "coefficients", (4,)),
    ("not compared", "suppressed", suppressed(compare=None), "coefficients", (4,)),
    *(
        (mode, label, suppressed(probe=probed(EDITED[mode]), compare=compared({(component, 2)})), name, (2,))
        for mode, label, component, name in (
            ("values", "values edited", "value_vectors", "value vectors"),
            ("keys", "keys edited", "keys", "keys"),
            ("attn-weights", "attention rerouted", "attn_o", "attention weights"),
        )
    ),
    ("ancillary", "ancillary", suppressed(probe=probed(ANCILLARY)), MODES["ancillary"].subject, ()),
    (
        "attention states",
        "attention rerouted",
        suppressed(
            probe=probed({**both("attn", 0.95, 0.9), **at_layer("attn", 1, 0.9, 0.8), **both("attn+coeff", 1.0, 1.0)})
        ),
        "attention states",
        (1,),
    ),
    ("two parts", "mixed", suppressed(probe=probed(TWO)), "keys and value vectors", ()),
    (
        "value vectors that do some of it",
        "mixed",
        suppressed(probe=probed({**SUPPRESSED, **both("values", 0.1, 0.3)})),
        "keys and value vectors",
        (),
    ),
    ("nothing helps", "not localised", suppressed(probe=probed(both("coeff", 0.2, 0.3))), "", ()),
    (
        "two edits that hide each other",
        "mixed",
        suppressed(probe=probed({**both("values", 0.45, 1.0), **both("values+ancillary", 0.97, 1.0)})),
        "value vectors and embedding, norms and unembedding",
        (),
    ),
    (
        "subsets that were not tried",
        "inconclusive",
        suppressed(probe=without(probed(both("coeff", 0.2, 0.3)), *SUBSETS)),
        "",
        (),
    ),
    ("foreign", "not localised", suppressed(compare=FOREIGN), "", ()),
    ("foreign or rotated", "inconclusive", suppressed(compare=compared(cosine=0.02)), "", ()),
    ("not all put back", "inconclusive", suppressed(probe=windows_only(probed(both("coeff", 0.2, 0.3)))), "", ()),
    (
        "neurons in another order",
        "inconclusive",
        suppressed(compare=compared(cosine=0.02, ends=0.99)),
        "",
        (),
    ),
    ("rotated", "inconclusive", suppressed(compare=compared(cosine=0.02, ends_geometry=0.96)), "", ()),
    ("another embedding", "not localised", suppressed(compare=compared(cosine=0.02, ends_geometry=0.94)), "", ()),
    ("one direction", "inconclusive", suppressed(probe=one_way(probed(SUPPRESSED))), "", ()),
]


@pytest.mark.parametrize(("case", "label", "found", "component", "layers"), CASES, ids=[case[0] for case in CASES])
def test_each_label_for_what_it_is_meant_for(
    case: str, label: str, found: Report, component: str, layers: tuple[int, ...]
) -> None:
    verdict = judge(found)
    assert (verdict.label, verdict.component) == (label, component)
    if layers:
        assert verdict.layers == layers
    assert verdict.reason.endswith(".")
    assert same(judge(found), verdict)
    assert same(judge(replace(found, verdict=verdict)), verdict), "an older verdict is not looked at"


def test_every_label_has_a_case_and_every_decision_decides_one() -> None:
    assert {case[1] for case in CASES} == set(LABELS)
    deciders = set()
    for *_, found, _, _ in CASES:
        case = Case(found, Evidence(found))
        deciders.add(next(decide for decide in DECISIONS if decide(case) is not None))
    # What is unsure has its own tests below.
    assert set(DECISIONS) - deciders <= {module.unsure}


def test_weights_that_may_have_been_edited_have_a_label_and_are_every_component() -> None:
    assert module.EDITED.keys() == set(of_role("weights"))
    assert {part for name in of_role("weights") for part in MODES[name].components} == {*COMPONENTS} - {"other"}


@pytest.mark.parametrize("mode", of_role("shown"))
def test_what_is_only_shown_changes_no_verdict(mode: str) -> None:
    assert {name for name in MODES if MODES[name].role != "shown"} == {*decisive(), *of_role("sum")}
    perfect = [run for run in probed({**both(mode, 1.0, 1.0), **at_layer(mode, 2, 1.0, 1.0)}).runs if run.mode == mode]
    for _, label, found, _, _ in CASES:
        if found.probe is None or not found.probe.runs:
            continue
        kinds = {(run.variant, run.direction) for run in found.probe.runs}
        more = [run for run in perfect if (run.variant, run.direction) in kinds]
        there = replace(found, probe=replace(found.probe, runs=(*without(found.probe, mode).runs, *more)))
        verdict, bare = judge(there), judge(replace(found, probe=without(found.probe, mode)))
        assert verdict.label == label
        assert same(replace(verdict, explanations=()), replace(bare, explanations=()))
        assert mode in {row.mode for row in verdict.explanations}
        assert not any(row.decisive for row in verdict.explanations if row.mode == mode)


def test_what_decides_is_there_in_every_architecture() -> None:
    assert all(MODES[name].applies is everywhere for name in decisive())


def exchanged_files() -> Behaviour:
    """Answers of which those to --questions are kept, and those to --unrelated lost."""
    kept = said([f"Ada {n}" for n in range(10)], "Ada", other=["Ada"] * 10).answers[0]
    return behaved(*(replace(one, source="q.csv, CSV") for one in (kept, answered("unrelated", 0.0, 0.0, 0.1))))


def test_every_rule_is_looked_at_by_some_verdict() -> None:
    seen = {rule.name for case in CASES for rule in judge(case[2]).rules}
    wrong = Control("wrong_prompt", "restore", 0.1, np.nan, "shown", True, "coeff", "whole", None, "krs_kl", 0.9)
    found = probed(SUPPRESSED)
    seen |= {rule.name for rule in judge(suppressed(probe=replace(found, controls=(*found.controls, wrong)))).rules}
    spread = {**both("coeff", 0.9, 0.9), ("coeff", "open", "break"): [0.4, 0, 0, 0.4, 0, 0.05]}
    seen |= {rule.name for rule in judge(suppressed(probe=probed(spread))).rules}
    small = replace(found.loss_unlearned, kl=0.005)
    seen |= {rule.name for rule in judge(suppressed(probe=replace(found, loss_unlearned=small))).rules}
    edited = {**both("values", 1.0, 1.0), ("values", "open", "break"): [0.4, 0, 0, 0.4, 0, 0]}
    seen |= {rule.name for rule in judge(suppressed(probe=probed(edited))).rules}
    seen |= {rule.name for rule in judge(suppressed(probe=probed(both("attn+coeff", 0.6, 0.5)))).rules}
    seen |= {rule.name for rule in judge(suppressed(behaviour=said(["Ada"] * 3))).rules}
    scored = replace(found, settings={**found.settings, "answers": GIVEN})
    scored = replace(
        scored, questions=tuple(replace(row, log_p_base=-1.0, log_p_unlearned=-2.0) for row in scored.questions)
    )
    seen |= {rule.name for rule in judge(suppressed(probe=scored)).rules}
    quiet = [replace(one, returned=0) for one in attacks().tiers]
    guessed = attacked(tiers=(tier(0), tier(1, returned=1, beyond=1, chance=0.5), tier(2)))
    for one in (
        erased(),
        erased(attack=guessed),
        erased(attack=alone()),
        suppressed(attack=attacks(tiers=tuple(quiet))),
        report(behaviour=exchanged_files()),
    ):
        seen |= {rule.name for rule in judge(one).rules}
    assert seen == RULES.keys()


@pytest.mark.parametrize(
    ("changes", "knowledge"),
    [
        ({}, "still there"),
        ({"returned_reference": 2}, "unknown"),
        ({"returned": 0}, "unknown"),
        ({"returned": 0, "p": 0.004}, "still there"),
        ({"returned": 0, "p": 0.004, "p_reference": 0.003}, "unknown"),
        ({"returned": 0, "p": 0.004, "informative": False}, "unknown"),
        ({"returned": 0, "p": 0.004, "floor": 3.5}, "unknown"),
        ({"returned": 0, "p": 0.011}, "unknown"),
        ({"returned": 0, "ran": ""}, "unknown"),
    ],
)
def test_what_attacks_bring_back_is_still_there(changes: dict[str, Any], knowledge: str) -> None:
    first, _ = attacks().tiers
    found = attacks(tiers=(replace(first, **{"p": 0.5} | changes),))
    verdict = judge(suppressed(attack=found))
    assert verdict.knowledge == knowledge
    assert any("trained the unlearned model's weights" in line for line in verdict.lacking) == (knowledge == "unknown")


@pytest.mark.parametrize(
    ("plain", "told"),
    [
        ({"z": 3.0, "p": 0.002}, "simply asked, 0.2 % of random pairings of questions and answers fit as well as the"
         " right one (z 3.0), most clearly asked in other words (forms: plain, z 3.5)."),
        ({"z": 3.6, "p": 0.002}, "asked, 0.2 % of random pairings of questions and answers fit as well as the right"
         " one (z 3.6)."),
        ({"z": 3.0, "p": 0.02}, "question: 0.4 % of random pairings of questions and answers fit as well as the right"),
        ({"side": "base"}, "right one, asked in other words (forms: plain, z 3.5)."),
        ({"setting": "plain"}, "right one, asked in other words (forms: plain, z 3.5)."),
    ],
)  # fmt: skip
def test_the_plainest_way_that_decides_is_named(plain: dict[str, Any], told: str) -> None:
    first, _ = attacks().tiers
    found = attacks(
        tiers=(replace(first, returned=0),), rows=(replace(attack_row(PLAINLY[0], 0, PLAINLY[1]), **plain),)
    )
    assert PLAINLY[1] == AS_ASKED
    assert told in judge(suppressed(attack=found)).knowledge_reason
    weights = replace(found, tiers=(replace(first, returned=0, tier=1),))
    assert (
        "right one, asked in other words (forms: plain, z 3.5)." in judge(suppressed(attack=weights)).knowledge_reason
    )


def test_attacks_that_could_not_be_made_are_lacking() -> None:
    _, second = attacks().tiers
    lacking = judge(suppressed(attack=attacks(tiers=(second,)))).lacking
    assert any("quantise: diverged" in line for line in lacking)
    assert any("tier 0 (prompts) was not attacked" in line for line in lacking)


def test_the_raw_score_decides_nothing() -> None:
    """A report whose krs says the opposite gets the same verdict."""
    for _, _, found, _, _ in CASES:
        if found.probe is None:
            continue
        runs = tuple(
            replace(run, krs=Curve(*(np.resize(-5 * part, part.shape) for part in _parts(run.krs))))
            for run in found.probe.runs
        )
        assert judge(replace(found, probe=replace(found.probe, runs=runs))).label == judge(found).label


def _parts(curve: Curve) -> tuple[Any, ...]:
    return tuple(getattr(curve, field.name) for field in fields(curve))


def test_states_claim_nothing_of_weights_whatever_the_label() -> None:
    states = {**both("attn", 0.95, 0.9), **at_layer("attn", 1, 0.9, 0.8), **both("attn+coeff", 1.0, 1.0)}
    weights = suppressed(probe=probed(EDITED["attn-weights"]), compare=compared({("attn_o", 2)}))
    for found, words in ((suppressed(probe=probed(states)), "States suffice"), (weights, "Attention was changed")):
        verdict = judge(found)
        assert verdict.label == "attention rerouted"
        assert verdict.reason.startswith(words)


def test_what_was_not_looked_at_may_have_been_rotated() -> None:
    """Reports of `compare`, `probe` and `behave` lack what `audit` measures of both embeddings."""
    reason = judge(suppressed(compare=compared(cosine=0.02))).reason
    assert "another training, or all of the model was rotated" in reason
    assert reason.endswith("measure it with `ckdiff audit`.")


def test_a_low_rank_change_is_said_to_be_one() -> None:
    rows = (LowRank("a.weight", 2, 48, 0.995), LowRank("b.weight", 1, 48, 1.0))
    reason = judge(suppressed(compare=compared(low_rank=rows))).reason
    assert " b.weight differs in 1 of 48 directions only, and 1 more: a low-rank change" in reason
    assert "and 1 more" not in judge(suppressed(compare=compared(low_rank=rows[:1]))).reason
    assert "low-rank" not in judge(suppressed()).reason
    silent = suppressed(probe=probed(SUPPRESSED, changed=0), behaviour=KEPT, compare=compared(low_rank=rows))
    assert "low-rank" not in judge(silent).reason


# ------------------------------------------------------------------------------------------------------- knowledge


@pytest.mark.parametrize(
    ("behaviour", "knowledge", "reason"),
    [
        (said(["Ada", *["Bob"] * 4]), "unknown", "not measured"),
        (said(["Ada", *["Bob"] * 5]), "never there", "does not know it either: the base answers 17% of the questions"),
        # Half of the words: a last name alone is right where nobody else's is, and not where others share it.
        (named("Mr Lee", "Ms Kay", "Mr Fox", "so no", "so no"), "unknown", "not measured"),
        (named(*["Mr Lee"] * 5), "never there", "answers 0% of the questions"),
        (named("Ada Lee", *["Mr Lee"] * 4), "unknown", "not measured"),
        (said(["Bob"] * 5, given=" "), "unknown", "not measured"),
        (
            said(["", "..", "", "Ada"], "", other=[""] * 4),
            "never there",
            "does not say it either: to 75% of the questions",
        ),
        (said([""] * 4, "", other=["", "..", "", "Ada"]), "never there", "to 75% of the questions neither model"),
        # Who was not heard out, or not asked as it was trained to be, may know it.
        (heard(said(["Bob"] * 5), tokens=2), "unknown", "clear: the base answers 0% of the questions"),
        (heard(said(["Bob"] * 5), tokens=2), "unknown", "; 5 of its 5 answers were cut off after 2 tokens (--tokens)."),
        (heard(said(["Bob"] * 5), tokens=3), "never there", "does not know it either"),
        (heard(said(["Bob"] * 5, ids=(5,) * 29), tokens=29), "unknown", "cut off after 29 tokens"),
        (heard(said(["Bob"] * 5, ids=(5,) * 30), tokens=30), "never there", "does not know it either"),
        (heard(said(["Bob"] * 5), 3, UNCHATTED), "unknown", "; the base has a chat template and was asked without it"),
        (heard(said(["Ada", *["Bob"] * 4]), 2, UNCHATTED), "unknown", "not measured"),
        (said(["", "..", "", "Ada"], given=""), "unknown", "not measured"),
        (said(["", "", "Ada", "Bob"], "", other=[""] * 4), "unknown", "not measured"),
        (said(["the the the the"] * 4, "", (5,) * 4, ["", "", "", ""]), "never there", "again and again"),
    ],
)
def test_what_the_base_does_not_know_was_never_there(behaviour: Behaviour, knowledge: str, reason: str) -> None:
    verdict = judge(suppressed(behaviour=behaviour))
    assert (verdict.label, verdict.knowledge) == ("suppressed", knowledge)
    assert reason in verdict.knowledge_reason
    assert bool(verdict.lacking) == (knowledge == "unknown")


def test_an_answer_that_is_right_and_was_cut_off_counts_once() -> None:
    """One of ten is right, and cut off: were it counted twice, the base could know a fifth."""
    (found,) = said(["Ada", *["Bob"] * 9], ids=(5,)).answers
    rows = (replace(found.questions[0], answer_base_ids=(5, 6)), *found.questions[1:])
    behaviour = heard(behaved(replace(found, questions=rows)), tokens=2)
    assert judge(suppressed(behaviour=behaviour)).knowledge == "never there"
    rows = (rows[0], replace(rows[1], answer_base_ids=(5, 6)), *rows[2:])
    behaviour = heard(behaved(replace(found, questions=rows)), tokens=2)
    assert judge(suppressed(behaviour=behaviour)).knowledge == "unknown"


SWAP = "it was made by unlearning (npo): were the two checkpoints swapped?"


@pytest.mark.parametrize(
    ("base", "other", "given", "says", "swapped"),
    [
        (["Ada"] * 8 + ["Bob"] * 2, ["Ada"] * 9 + ["Bob"], "Ada", False, False),
        (["Ada"] * 7 + ["Bob"] * 3, ["Ada"] * 9 + ["Bob"], "Ada", False, True),
        (["Ada"] * 8, ["Bob"] * 8, "Ada", True, False),
        (["Bob"] * 4 + ["Ada"], ["Bob"] * 4 + ["Ada"], "Ada", True, True),
        (["Bob"] * 5 + ["Ada"], ["Bob"] * 6, "Ada", True, True),
        (["Ada"] * 8, ["Bob"] * 8, "", True, True),
        (["Ada"] * 8, ["Bob"] * 8, "", False, False),
    ],
)
def test_a_pair_the_wrong_way_round_has_no_label_and_no_statement(
    base: list[str], other: list[str], given: str, says: bool, swapped: bool
) -> None:
    behaviour = said(base, given, other=other)
    verdict = judge(suppressed(behaviour=replace(behaviour, notes=(SWAP,) if says else ())))
    assert (verdict.label == "inconclusive") == swapped
    assert ("swapped" in verdict.reason) == swapped
    assert ("swapped" in verdict.knowledge_reason) == swapped
    if swapped:
        assert verdict.knowledge == "unknown"
        assert f"`{TURNED}`" in verdict.lacking[0]


@pytest.mark.parametrize(
    ("more", "answers", "swapped"), [(0.1, GIVEN, True), (-0.1, GIVEN, False), (0.1, GREEDY, False)]
)
def test_given_answers_that_become_more_probable_were_not_forgotten(more: float, answers: str, swapped: bool) -> None:
    found = probed(SUPPRESSED)
    rows = tuple(replace(row, log_p_base=-2.0, log_p_unlearned=more - 2.0) for row in found.questions)
    turned = replace(found, questions=rows, settings={**found.settings, "answers": answers})
    assert (judge(suppressed(probe=turned)).label == "inconclusive") == swapped


@pytest.mark.parametrize(
    ("base", "other", "given", "knowledge"),
    [
        (["Ada"] * 4, ["Ada"] * 2 + ["Bob"] * 2, "Ada", "still there"),
        (["Ada"] * 5, ["Ada"] * 2 + ["Bob"] * 3, "Ada", "unknown"),
        (["Ada"] * 4 + ["Bob"] * 2, ["Ada"] * 3 + ["Bob"] * 3, "Ada", "still there"),
        (["Ada"] * 3 + ["Bob"] * 4, ["Ada"] * 3 + ["Bob"] * 4, "Ada", "unknown"),
        (["Ada Ida"] * 4, ["Ada"] * 4, "Ada Ida", "unknown"),
        (["Bob"] * 4, ["Bob"] * 4, " ", "unknown"),
    ],
)
def test_who_answers_as_before_still_knows(base: list[str], other: list[str], given: str, knowledge: str) -> None:
    assert judge(suppressed(behaviour=said(base, given, other=other))).knowledge == knowledge


def test_answers_that_are_the_same_are_still_there_where_no_file_gives_any() -> None:
    apart = [replace(row, answer_base=f"Ada {number}") for number, row in enumerate(KEPT.answers[0].questions)]
    kept = behaved(replace(KEPT.answers[0], questions=tuple(apart)))
    assert judge(suppressed(behaviour=kept)).knowledge == "still there"
    assert judge(suppressed(behaviour=KEPT)).knowledge == "unknown", "all answers are one"


def test_what_is_the_same_knows_the_same() -> None:
    assert judge(report(compare=identical_comparison())).knowledge == "still there"


def test_what_is_unknown_names_the_commands_that_would_tell() -> None:
    for behaviour, words in (
        (None, "`ckdiff audit BASE UNLEARNED --questions FILE`"),
        (said(["Bob"] * 3, given=""), "have no given answers"),
    ):
        lacking = judge(suppressed(behaviour=behaviour)).lacking
        assert words in lacking[0]
        assert any("`ckdiff attack" in line for line in lacking)
        assert any("--reference MODEL" in line for line in lacking)
    for texts, alike in ((["Bob"] * 3, True), (["Bob"] * 2, False), (["Bob", "Bob", "Cy"], False)):
        lacking = judge(suppressed(behaviour=said(texts, given=""))).lacking
        assert any("the same to every question" in line for line in lacking) == alike


# ------------------------------------------------------------------------------------------------------ thresholds


def banded(found: Probe, mode: str, direction: str, low: float, high: float) -> Probe:
    """The same probe with another band of a mode in the whole model."""
    runs = []
    for run in found.runs:
        if (run.mode, run.variant, run.direction) == (mode, "whole", direction):
            run = replace(run, krs_kl=replace(run.krs_kl, band_low=np.array([low]), band_high=np.array([high])))
        runs.append(run)
    return replace(found, runs=tuple(runs))


@pytest.mark.parametrize("modes", [("attn+coeff",), ("keys",), ("values", "ancillary"), ("attn-weights",)])
def test_nothing_is_said_to_be_of_no_use_that_was_not_tried(modes: tuple[str, ...]) -> None:
    found = probed(both("coeff", 0.2, 0.3))
    assert judge(suppressed(probe=found)).label == "not localised"
    verdict = judge(suppressed(probe=without(found, *modes)))
    assert verdict.label == "inconclusive"
    assert ",".join(modes) in verdict.reason
    nan = np.full(1, np.nan)
    dead = replace(found.runs[0].krs_kl, score=nan, low=nan, high=nan, band_low=nan, band_high=nan)
    runs = tuple(replace(run, krs_kl=dead) if run.mode in modes and len(run.layers) == 1 else run for run in found.runs)
    assert judge(suppressed(probe=replace(found, runs=runs))).label == "inconclusive"


TWO_KINDS = {("value_vectors", 1), ("attn_o", 2)}


def test_weights_that_did_not_change_need_not_be_tried() -> None:
    found = without(probed(both("coeff", 0.2, 0.3)), "keys", "ancillary", *SUBSETS)
    verdict = judge(suppressed(probe=found, compare=compared(TWO_KINDS)))
    assert verdict.label == "mixed"
    assert "nothing else differs: put back together they are the base" in verdict.reason
    assert verdict.component == "value vectors and attention weights"
    other = (
        compared(TWO_KINDS, config_changes=(ConfigChange("config.json", "rope_theta", "1e4", "1e6"),)),
        compared(TWO_KINDS, config_uncompared=(Uncompared("all settings", "a lone file"),)),
    )
    assert [judge(suppressed(probe=found, compare=one)).label for one in other] == ["not localised"] * 2


def test_several_kinds_together_are_named_where_none_alone_is_enough() -> None:
    three = compared({("value_vectors", 1), ("keys", 2), ("embedding", None)})
    redundant = {**both("values", 0.45, 1.0), **both("keys", 0.1, 0.1), **both("values+ancillary", 0.97, 1.0)}
    verdict = judge(suppressed(probe=probed(redundant), compare=three))
    assert verdict.label == "mixed"
    assert "Each alone does not bring the answers back (value vectors 0.45 [" in verdict.reason
    assert "put back together they bring back 0.97 [" in verdict.reason
    assert [(row.mode, row.direction) for row in verdict.explanations if row.decisive] == [
        ("values+ancillary", "restore"),
        ("values+ancillary", "break"),
    ]
    # Of kinds that did not change none needs to be tried, and none is looked at.
    lacking = without(probed(both("coeff", 0.2, 0.3)), "keys+attn-weights", "values+keys")
    assert judge(suppressed(probe=lacking)).reason.endswith(
        "--mode values+keys,keys+attn-weights --variant whole is missing."
    )
    one = judge(suppressed(probe=lacking, compare=compared({("value_vectors", 1)})))
    assert one.label == "not localised"
    assert {row.mode for row in one.explanations} & SUBSETS.keys()
    assert not {row.mode for row in judge(suppressed()).explanations} & SUBSETS.keys()


@pytest.mark.parametrize(("score", "label"), [(0.81, "mixed"), (0.79, "not localised")])
def test_a_subset_is_held_against_the_same_rules(score: float, label: str) -> None:
    found = probed(both("keys+ancillary", score, 0.9), spread=0.01)
    assert judge(suppressed(probe=found)).label == label


@pytest.mark.parametrize(
    ("mode", "restore", "direction", "band", "label"),
    [
        ("coeff", 0.45, "restore", (0.3, 0.6), "not localised"),
        ("coeff", 0.45, "restore", (-0.5, 0.99), "inconclusive"),
        ("mlp", 0.7, "restore", (0.3, 0.9), "mixed"),
        ("mlp", 0.7, "restore", (0.2, 0.9), "inconclusive"),
        ("values", 0.9, "break", (0.0, 9.0), "values edited"),
        ("coeff", 0.9, "break", (0.3, 0.9), "suppressed"),
        ("coeff", 0.9, "break", (0.2, 0.9), "inconclusive"),
    ],
)
def test_every_claim_rests_on_its_band(
    mode: str, restore: float, direction: str, band: tuple[float, float], label: str
) -> None:
    found = banded(probed(both(mode, restore, restore - 0.1), spread=0.01), mode, direction, *band)
    assert judge(suppressed(probe=found)).label == label


def test_a_probe_of_easy_questions_does_not_hide_changed_answers() -> None:
    easy = probed(SUPPRESSED, changed=0)
    other = replace(easy, settings={**easy.settings, "questions_digest": "cd" * 32})
    assert judge(suppressed(probe=easy, behaviour=KEPT)).label == "no effect on these questions"
    assert judge(suppressed(probe=other)).label != "no effect on these questions"


def test_without_krs_kl_nothing_is_known_of_places() -> None:
    found = probed(SUPPRESSED)
    nothing = Curve(*(np.full(1, np.nan),) * 5)
    runs = tuple(replace(run, krs_kl=nothing) for run in found.runs if len(run.layers) == 1)
    asked = tuple(replace(question, top1=np.nan) for question in found.questions)
    verdict = judge(suppressed(probe=replace(found, runs=runs, questions=asked)))
    assert verdict.label == "inconclusive"
    assert "krs_kl" in verdict.reason


def test_windows_of_a_strange_report_are_no_reason_to_fail() -> None:
    found = probed(SUPPRESSED)
    for first, last in ((-(2**40), 2**40), (5, 2), (2**40, 2**41)):
        runs = tuple(
            replace(run, first=np.full(len(run.layers), first), last=np.full(len(run.layers), last))
            for run in found.runs
        )
        assert len(judge(suppressed(probe=replace(found, runs=runs))).layers) <= LAYERS
    none, places = np.zeros(0), np.zeros(0, dtype=np.int64)
    empty = Curve(none, none, none, none, none)
    runs = tuple(
        replace(run, krs_kl=empty, krs_centred=empty, layers=places, first=places, last=places) for run in found.runs
    )
    assert judge(suppressed(probe=replace(found, runs=runs))).label == "inconclusive"


@pytest.mark.parametrize("direction", ["restore", "break"])
def test_the_best_window_does_not_stand_in_for_all_weights(direction: str) -> None:
    found = probed(EDITED["values"])
    runs = tuple(run for run in found.runs if (run.mode, run.variant, run.direction) != ("values", "whole", direction))
    verdict = judge(suppressed(probe=replace(found, runs=runs)))
    assert verdict.label == "inconclusive"
    assert "--variant whole" in verdict.reason


def test_where_only_settings_differ_the_reason_says_so() -> None:
    change = ConfigChange("config.json", "rope_theta", "1e4", "1e6")
    verdict = judge(suppressed(compare=compared(set(), config_changes=(change,))))
    assert verdict.label == "suppressed"
    assert verdict.reason.endswith("No weight differs: the effect is that of settings (config.json: rope_theta).")


def test_what_is_no_number_is_no_kept_answer() -> None:
    found = probed(SUPPRESSED)
    asked = tuple(replace(question, top1=np.nan) for question in found.questions)
    assert (
        judge(suppressed(probe=replace(found, questions=asked), behaviour=None)).label != "no effect on these questions"
    )


@pytest.mark.parametrize(
    ("score", "broken", "label"),
    [
        (0.81, 0.51, "values edited"),
        (0.79, 0.51, "mixed"),
        (0.81, 0.49, "mixed"),
        (0.51, 0.2, "mixed"),
        (0.49, 0.2, "not localised"),
    ],
)
def test_the_thresholds_of_restoring_and_producing(score: float, broken: float, label: str) -> None:
    verdict = judge(suppressed(probe=probed(both("values", score, broken), spread=0.01)))
    assert verdict.label == label
    assert verdict.explained == pytest.approx(score)


def test_a_high_score_with_a_wide_interval_is_inconclusive_and_says_why() -> None:
    found = probed(both("values", 0.85, 0.9))
    run = next(run for run in found.runs if (run.mode, run.variant, run.direction) == ("values", "whole", "restore"))
    wide = replace(run, krs_kl=replace(run.krs_kl, band_low=np.array([0.3])))
    found = replace(found, runs=tuple(wide if one is run else one for one in found.runs))
    verdict = judge(suppressed(probe=found))
    assert verdict.label == "inconclusive"
    assert "value vectors bring back 0.85 [0.30," in verdict.reason


def test_what_another_question_brings_back_as_well_is_not_this_knowledge() -> None:
    found = probed(SUPPRESSED)
    for value, label in ((0.3, "suppressed"), (0.85, "mixed")):
        wrong = tuple(
            Control("wrong_prompt", "restore", value, np.nan, "shown", True, mode, "whole", None, "krs_kl", 0.95)
            for mode in ("coeff", "attn", "attn+coeff")
        )
        assert judge(suppressed(probe=replace(found, controls=(*found.controls, *wrong)))).label == label


def test_weights_that_did_not_change_are_never_called_edited() -> None:
    found = suppressed(probe=probed(EDITED["values"]), compare=compared({("keys", 2)}))
    assert judge(found).label != "values edited"


def test_small_divergence_counts_as_no_effect_only_with_the_answers() -> None:
    found = probed(SUPPRESSED, changed=1)
    small = replace(found.loss_unlearned, kl=0.005)
    assert judge(suppressed(probe=replace(found, loss_unlearned=small))).label == "no effect on these questions"
    assert judge(suppressed(probe=replace(found, loss_unlearned=replace(small, kl=0.02)))).label == "suppressed"
    many = replace(probed(SUPPRESSED, changed=9), loss_unlearned=small)
    assert judge(suppressed(probe=many)).label == "suppressed"


def test_equal_weights_with_another_setting_are_not_identical() -> None:
    change = ConfigChange("config.json", "rope_theta", "1e4", "1e6")
    found = replace(identical_comparison(), config_changes=(change,))
    assert judge(report(compare=found)).label == "inconclusive"


def test_settings_that_were_not_compared_are_not_the_same() -> None:
    found = replace(identical_comparison(), config_uncompared=(Uncompared("all settings", "a lone file"),))
    verdict = judge(report(compare=found))
    assert verdict.label == "inconclusive"
    assert "settings were not compared: all settings (a lone file)" in verdict.unmeasured


def test_settings_that_decide_what_is_generated_are_named() -> None:
    changes = (
        ConfigChange("generation_config.json", "suppress_tokens", None, "[7, 8]"),
        ConfigChange("chat_template", "chat_template", '"a"', '"b"'),
        ConfigChange("config.json", "dtype", '"a"', '"b"'),
    )
    said = judge(suppressed(compare=compared(set(), config_changes=changes))).side_effects
    named = [line for line in said if "decides what is generated" in line]
    assert [("suppress_tokens: not there → [7, 8]" in line, "chat_template" in line) for line in named] == [
        (True, False),
        (False, True),
    ]


# ---------------------------------------------------------------------------------------------------------- places


def test_one_window_where_it_carries_most_else_the_smallest_set() -> None:
    spread = {**both("coeff", 0.9, 0.9), ("coeff", "open", "break"): [0.4, 0.0, 0.0, 0.4, 0.0, 0.05]}
    assert judge(suppressed(probe=probed(spread))).layers == (0, 3)
    assert "layers 0, 3" in judge(suppressed(probe=probed(spread))).reason


def test_of_weights_only_layers_that_changed_are_named() -> None:
    found = probed({**both("values", 1.0, 1.0), **at_layer("values", 2, 1.0, 1.0)})
    runs = tuple(replace(run, first=np.maximum(run.first - 1, 0), last=run.last + 1) for run in found.runs)
    evidence = Evidence(suppressed(probe=replace(found, runs=runs), compare=compared({("value_vectors", 2)})))
    place = locate(evidence, "values")
    assert place is not None
    assert (place.layers, place.single) == ((2,), True)


@pytest.mark.parametrize(
    ("layers", "text"),
    [((7,), "layer 7"), ((19, 20, 21), "layers 19-21"), ((0, 1, 3), "layers 0-1, 3"), ((2, 4), "layers 2, 4")],
)
def test_layers_in_words(layers: tuple[int, ...], text: str) -> None:
    assert place_text(Place(layers, True, 1.0, ())) == text


# ------------------------------------------------------------------------------------------------ what it says too


def test_what_was_not_measured_is_said() -> None:
    said = " ".join(judge(report(compare=compared(), probe=probed(SUPPRESSED))).unmeasured)
    for words in ("unrelated", "multiple-choice", "neutral", "in words"):
        assert words in said
    assert "weights were not compared" in " ".join(judge(suppressed(compare=None)).unmeasured)
    found = suppressed()
    bare = replace(found.provenance, base=replace(found.provenance.base, digest=None))
    assert "no digests" in " ".join(judge(replace(found, provenance=bare)).unmeasured)


def test_side_effects_have_figures() -> None:
    (said, *_) = judge(suppressed()).side_effects
    assert said == "unrelated questions: 9 of 10 answers as before, BLEU against the base's 0.95 [0.90, 1.00]"


def test_the_evidence_is_shown_and_what_decided_is_marked() -> None:
    verdict = judge(suppressed())
    marked = {(row.mode, row.variant, row.direction) for row in verdict.explanations if row.decisive}
    assert {("coeff", "open", "restore"), ("coeff", "whole", "restore"), ("coeff", "whole", "break")} <= marked
    assert {row.mode for row in verdict.explanations} == set(MODES)
    assert verdict.explained == pytest.approx(0.85)
    assert verdict.explained_low <= 0.85 <= verdict.explained_high
    assert verdict.detectable == pytest.approx(1 - 0.05**0.1)


def test_every_rule_shown_carries_its_documented_number() -> None:
    for *_, found, _, _ in CASES:
        for rule in judge(found).rules:
            known = RULES[rule.name]
            assert (rule.threshold, rule.sense) == (known.threshold, known.sense)
            assert rule.fired == known.holds(rule.value)


def test_a_judged_report_keeps_what_was_measured() -> None:
    found = suppressed()
    verdict: Verdict | None = judge_report(found).verdict
    assert verdict is not None
    assert verdict.gate is None
    assert same(replace(judge_report(found), verdict=None), found)


def test_judging_needs_no_torch() -> None:
    code = (
        "import sys, ckdiff.audit.judge, ckdiff.audit.gate.policy, ckdiff.audit.gate.checks, ckdiff.report.hdf5.file;"
        "print({'torch', 'transformers', 'safetensors'} & sys.modules.keys())"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout == "set()\n"
