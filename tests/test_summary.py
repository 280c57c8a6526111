"""What one screen of a verdict says, held against a verdict made of few parts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ckdiff.audit.verdict.side_effects import SWAPPED
from ckdiff.audit.verdict.verdict import judge
from ckdiff.options import USUAL_REPORT
from ckdiff.report.schema.report import Provenance
from ckdiff.report.schema.verdict import Gate, GateCheck, Outcome, Verdict
from ckdiff.report.terminal.view import to_view
from ckdiff.report.words.commands import complete_command
from ckdiff.report.words.sections import Selection
from ckdiff.report.words.summary import SENTENCE, checks_text, next_commands, unrelated_text
from tests.judged import answered, behaved, probed, report, side
from tests.reports import attacks
from tests.test_tables import rendered


def gated(*checks: tuple[str, Outcome]) -> Verdict:
    rows = tuple(
        GateCheck(name, outcome, f"what {name} is about", float("nan"), float("nan")) for name, outcome in checks
    )
    gate = Gate(outcome="failed", source="p.toml", digest="", policy="", checks=rows)
    return replace(judge(report()), gate=gate)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], ""),
        (["fail.labels"], "fail.labels: what fail.labels is about"),
        (["a", "b", "c", "d"], "a, b, c, d"),
        (["a", "b", "c", "d", "e"], "a, b, c, d and 1 more"),
    ],
)
def test_failed_checks_are_named(names: list[str], expected: str) -> None:
    found = gated(("kept", "passed"), *((name, "failed") for name in names), ("lacks", "inconclusive"))
    assert checks_text(found, "failed") == expected
    assert checks_text(found, "inconclusive") == "lacks: what lacks is about"
    assert checks_text(replace(found, gate=None), "failed") == ""


def test_a_long_sentence_is_cut_between_words() -> None:
    text = checks_text(gated(("long " * 60, "failed")), "failed")
    assert len(text) <= SENTENCE
    assert text.endswith("long …")


@pytest.mark.parametrize(("same", "expected"), [(10, "0 of 10"), (1, "9 of 10"), (0, "10 of 10")])
def test_unrelated_answers_that_changed_are_counted(same: int, expected: str) -> None:
    sets = answered("target", 0.1, 0.0, 0.2), answered("unrelated", 0.9, 0.8, 1.0, same=same)
    assert unrelated_text(report(behaviour=behaved(*sets))) == f"{expected} unrelated answers changed as well"
    assert unrelated_text(report(behaviour=behaved(sets[0]))) == ""


def test_what_to_type_next() -> None:
    found = gated()
    show, page = "ckdiff show r.h5 --section verdict", "ckdiff html r.h5 --output page.html"
    assert next_commands(report(), replace(found, lacking=()), "r.h5") == [show, page]
    lacking = ("no attack was tried (`ckdiff attack --questions FILE`)", "none (`ckdiff other`)")
    attack = "ckdiff attack --questions FILE --output r.h5"
    assert next_commands(report(), replace(found, lacking=lacking), "r.h5") == [attack, show]
    assert next_commands(report(), replace(found, lacking=()), "my r.h5")[0] == (
        "ckdiff show 'my r.h5' --section verdict"
    )


@pytest.mark.parametrize(
    ("source", "given", "file"),
    [
        ("towns.jsonl, JSON lines", "", "towns.jsonl"),
        ("my towns.jsonl, JSON lines", "", "'my towns.jsonl'"),
        ("towns.jsonl, JSON lines", "pair/towns.jsonl", "pair/towns.jsonl"),
        ('towns.json, towns, concept "Old \\"Velmar\\""', "", "towns.json --concept 'Old \"Velmar\"'"),
        ("command line", "", "FILE"),
        ("-o, JSON lines", "", "FILE"),
        ("a\x1b, JSON lines", "", "FILE"),
    ],
)
def test_a_command_names_the_questions_that_the_report_knows(source: str, given: str, file: str) -> None:
    asked = replace(probed({}), settings={"questions_digest": "", "questions_source": source})
    command = complete_command("ckdiff attack --questions FILE --tier 0", report(probe=asked), USUAL_REPORT, given)
    assert command == f"ckdiff attack --questions {file} --tier 0"


def test_a_command_keeps_the_reference_of_earlier_attacks() -> None:
    found = report(attack=attacks(reference="never knew", reference_kind="before"))
    beside = "ckdiff attack --tier 2 --reference 'never knew' --reference-kind before --output r.h5"
    assert complete_command("ckdiff attack --tier 2", found, "r.h5") == beside
    assert complete_command("ckdiff behave", found, USUAL_REPORT) == "ckdiff behave"


@pytest.mark.parametrize("details", [False, True])
def test_a_swapped_pair_is_told_the_right_order(details: bool) -> None:
    sides = Provenance(
        replace(side("base"), location="/my pair/new"), replace(side("unlearned"), location="org/old", revision="ab")
    )
    said = behaved(answered("target", 0.1, 0.0, 0.2), notes=(f"made by npo: {SWAPPED}",))
    found = replace(report(behaviour=said), provenance=sides)
    found = replace(found, verdict=judge(found))
    text = rendered(to_view(found, Selection("verdict", brief="" if details else "r.h5")), 500)
    command = "ckdiff audit org/old@ab '/my pair/new' --questions FILE --output turned.h5"
    assert f"to do      The two checkpoints were probably swapped: give them the other way round, `{command}`." in text
    assert (f"$ {command}" in text) is not details
