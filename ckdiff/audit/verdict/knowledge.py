"""What became of the knowledge: `state_knowledge(case, label)`, beside the label and never derived from it.

A label rests on restoration, which borrows the base's states: it says what suffices to bring the answers back. This
statement rests on what the unlearned model does by itself. The first rule that has something to say decides, in the
order of `STATEMENTS`:

    still there   the two checkpoints are the same
    never there   the base does not know it either: it answers the questions wrong, or says nothing at all
    unknown       otherwise; `lacking` says what is missing, each with the command that measures it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.audit.verdict.answers import equal_answers, share_right, share_silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ckdiff.audit.verdict.case import Case
    from ckdiff.report.schema.behaviour import AnswerRecord
    from ckdiff.report.schema.verdict import Knowledge, Label


@dataclass(frozen=True, slots=True)
class Statement:
    """What is said of the knowledge, why, and what it would take to say more."""

    knowledge: Knowledge
    reason: str
    lacking: tuple[str, ...] = ()


def state_knowledge(case: Case, label: Label) -> Statement:
    """The first statement that a rule makes, with what is lacking where that is not the last word."""
    found = next(one for state in STATEMENTS if (one := state(case, label)) is not None)
    return found


def same_weights(case: Case, label: Label) -> Statement | None:
    """The two checkpoints are the same, and so is what they know."""
    if label != "identical":
        return None
    return Statement("still there", "The two checkpoints are the same: whatever the base knows, the other one knows.")


def base_is_ignorant(case: Case, label: Label) -> Statement | None:
    """The base itself answers wrong, or says nothing."""
    rows = target_rows(case)
    right, silent = share_right(rows, "base"), share_silent(rows)
    if not np.isnan(right):
        text = f"the base answers {right:.0%} of the questions that have a given answer right"
        if not case.rule("base knows", right, text):
            return Statement("never there", f"The base does not know it either: {text}.")
    if not np.isnan(silent):
        text = f"to {silent:.0%} of the questions the base says nothing, or one thing again and again"
        if not case.rule("base speaks", silent, text):
            return Statement("never there", f"The base does not say it either: {text}.")
    return None


def unknown(case: Case, label: Label) -> Statement:
    """Nothing that was measured tells."""
    return Statement(
        "unknown",
        "Whether the unlearned model still knows it was not measured: putting states of the base back says where the"
        " effect lives, and no more.",
        tuple(lacking(case)),
    )


STATEMENTS: tuple[Callable[[Case, Label], Statement | None], ...] = (same_weights, base_is_ignorant, unknown)
"""In this order; the first that says something is the statement. The last one always does."""


def lacking(case: Case) -> Iterator[str]:
    """What a statement would need and the report does not hold, each with the command that measures it."""
    rows = target_rows(case)
    if not rows:
        yield "what the unlearned model says by itself was not asked (`ckdiff behave --questions FILE`)"
    elif not any(row.answer_given.strip() for row in rows):
        yield "whether the base answers right is not known: the questions have no given answers (--questions FILE)"
    if equal_answers(rows):
        yield "the base says the same to every question: such answers tell nothing (--questions FILE with other ones)"
    yield "no attack was tried on the unlearned model (`ckdiff attack --questions FILE`)"
    yield "no model that never knew it was measured beside it (--reference MODEL --reference-kind retrained)"


def target_rows(case: Case) -> Sequence[AnswerRecord]:
    """The answers about what was to be unlearned."""
    target = case.evidence.answers.get("target")
    return () if target is None else target.questions
