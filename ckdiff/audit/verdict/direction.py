"""Whether a pair looks as if it had been given the wrong way round: `wrong_way(case)`, a sentence or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ckdiff.audit.verdict.answers import share_right
from ckdiff.audit.verdict.rules import RULES
from ckdiff.audit.verdict.side_effects import SWAPPED
from ckdiff.scoring.settings import GIVEN

if TYPE_CHECKING:
    from ckdiff.audit.verdict.case import Case


def wrong_way(case: Case) -> str:
    """Why base and unlearned model may have been swapped, in one sentence; "" where nothing says so.

    Who knows less than the model that is said to have forgotten is no base. One that says itself that it was unlearned
    may be the base of the next unlearning all the same, where its answers show that it knows more.
    """
    if case.swapped is None:
        case.swapped = _knows_less(case) or _finds_less_probable(case) or _says_so(case)
    return case.swapped


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
