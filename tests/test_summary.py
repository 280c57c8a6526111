"""What one screen of a verdict says, held against a verdict made of few parts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ckdiff.audit.verdict.verdict import judge
from ckdiff.report.schema.verdict import Gate, GateCheck, Outcome, Verdict
from ckdiff.report.words.summary import SENTENCE, checks_text, next_commands, unrelated_text
from tests.judged import answered, behaved, report


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
    assert next_commands(replace(found, lacking=()), "r.h5") == [show, page]
    lacking = ("no attack was tried (`ckdiff attack --questions FILE`)", "none (`ckdiff other`)")
    assert next_commands(replace(found, lacking=lacking), "r.h5") == ["ckdiff attack --questions FILE", show]
