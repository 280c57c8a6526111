"""Whether two things look as if each had been given in the other's place: a sentence, or nothing.

wrong_way(case)       base and unlearned model
exchanged(case)       the files of target and of unrelated questions
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ckdiff.audit.verdict.answers import HALF, share_right, share_said
from ckdiff.audit.verdict.rules import RULES
from ckdiff.audit.verdict.side_effects import SWAPPED
from ckdiff.scoring.settings import GIVEN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.audit.verdict.case import Case
    from ckdiff.report.schema.behaviour import AnswerRecord, AnswerSet


def wrong_way(case: Case) -> str:
    """Why base and unlearned model may have been swapped, in one sentence; "" where nothing says so.

    Who knows less than the model that is said to have forgotten is no base. One that says itself that it was unlearned
    may be the base of the next unlearning all the same, where its answers show that it knows more.
    """
    if case.swapped is None:
        case.swapped = _knows_less(case) or _finds_less_probable(case) or _says_so(case)
    return case.swapped


OWN = ", unrelated questions"
"""How the source of unrelated questions ends that stand in one file with the target's."""


def exchanged(case: Case) -> str:
    """Why the two files of questions may have been exchanged, in one sentence; "" where nothing says so.

    Unlearning that leaves every target answer as it was and loses others instead is conspicuous. Of one file, of
    ckdiff's own questions, or of so few questions that it may be chance, nothing is said.
    """
    target, other = (case.evidence.answers.get(name) for name in ("target", "unrelated"))
    if target is None or other is None or not all(map(_could_be_exchanged, (target, other))):
        return ""
    kept, lost = _share_lost(target.questions), _share_lost(other.questions)
    text = f"{lost:.0%} of the unrelated answers are lost, and {kept:.0%} of those to --questions"
    looks = case.rule("exchanged.lost", lost, text) and case.rule("exchanged.kept", kept, text)
    return f"{text}: {EXCHANGED_FILES}" if looks else ""


EXCHANGED_FILES = "are --questions and --unrelated swapped?"


def _could_be_exchanged(found: AnswerSet) -> bool:
    named = ", " in found.source and not found.source.endswith(OWN)
    return named and RULES["questions"].holds(len(found.questions))


def _share_lost(rows: Sequence[AnswerRecord]) -> float:
    """The share of the answers of which the unlearned model says less than half, of those that the base gives."""
    given = [(row, row.answer_given.strip() or row.answer_base) for row in rows]
    known = [(row, answer) for row, answer in given if share_said(row.answer_base, answer, row.text) >= HALF]
    lost = [share_said(row.answer_unlearned, answer, row.text) < HALF for row, answer in known]
    return float(np.mean(lost)) if lost else float("nan")


def _knows_less(case: Case) -> str:
    """By the answers that their file gives."""
    base, other = _right(case)
    text = (
        f"the unlearned model answers {other:.0%} of the questions that have a given answer right, the base {base:.0%}"
    )
    if np.isnan(base) or case.rule("direction", other - base, text):
        return ""
    return f"{text}: {SWAPPED}"


def _finds_less_probable(case: Case) -> str:
    """By the probability of the given answers; of its own greedy ones a base is always surer."""
    probe = case.report.probe
    if probe is None or probe.settings.get("answers") != GIVEN:
        return ""
    more = float(np.mean([row.log_p_unlearned - row.log_p_base for row in probe.questions] or [np.nan]))
    text = f"to the unlearned model the given answers are more probable than to the base, by {more:.2g} nats each"
    return "" if np.isnan(more) or case.rule("direction.probability", more, text) else f"{text}: {SWAPPED}"


def _says_so(case: Case) -> str:
    """By what the base says of its own making, where its answers do not speak for it."""
    base, other = _right(case)
    found = case.report.behaviour
    said = next((note for note in (() if found is None else found.notes) if note.endswith(SWAPPED)), "")
    return "" if RULES["base knows"].holds(base) and base > other else said


def _right(case: Case) -> tuple[float, float]:
    """The shares of the given answers that both models give; NaN where none was given."""
    target = case.evidence.answers.get("target")
    rows = () if target is None else target.questions
    return share_right(rows, "base"), share_right(rows, "unlearned")
