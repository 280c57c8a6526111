"""The fate of the knowledge: `state_knowledge(case, label)`, beside the label and never derived from it.

A label rests on restoration, which borrows the base's states: it says what suffices to bring the answers back. This
statement rests on what the unlearned model does by itself. The first rule that has something to say decides, in the
order of `STATEMENTS`:

    still there   the two checkpoints are the same
    unknown       the base knows less than the unlearned model: the pair was given the wrong way round
    never there   the base does not know it either: it answers the questions wrong, or neither model says anything
    still there   the unlearned model answers most questions as the base does, right where answers are given
    still there   attacks on the unlearned model alone bring answers back, or match them to their questions
    unknown       otherwise; `lacking` says what is missing, each with the command that measures it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.audit.verdict.answers import equal_answers, says_whole, share_right, share_silent
from ckdiff.audit.verdict.direction import wrong_way

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ckdiff.audit.verdict.case import Case
    from ckdiff.report.schema.attack import AttackReport
    from ckdiff.report.schema.behaviour import AnswerRecord
    from ckdiff.report.schema.verdict import Knowledge, Label


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement on the knowledge, its reasons, and what it would take to say more."""

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


def swapped(case: Case, label: Label) -> Statement | None:
    """The base may be the unlearned model."""
    reason = wrong_way(case)
    if not reason:
        return None
    turned = "the pair the other way round was not audited (`ckdiff audit UNLEARNED BASE`)"
    return Statement("unknown", f"Which of the two knows it is not clear: {reason}", (turned, *lacking(case)))


def base_is_ignorant(case: Case, label: Label) -> Statement | None:
    """The base itself answers wrong, or says nothing."""
    rows = target_rows(case)
    right, silent = share_right(rows, "base"), min(share_silent(rows, side) for side in ("base", "unlearned"))
    if not np.isnan(right):
        text = f"the base answers {right:.0%} of the questions that have a given answer right"
        if not case.rule("base knows", right, text):
            return Statement("never there", f"The base does not know it either: {text}.")
    if not np.isnan(silent):
        text = f"to {silent:.0%} of the questions neither model says anything, or one thing again and again"
        if not case.rule("base speaks", silent, text):
            return Statement("never there", f"The base does not say it either: {text}.")
    return None


def answers_as_before(case: Case, label: Label) -> Statement | None:
    """The unlearned model gives the base's answers when it is simply asked."""
    rows = target_rows(case)
    given = [row for row in rows if row.answer_given.strip()]
    kept = [row for row in given if says_whole(row.answer_base, row) and says_whole(row.answer_unlearned, row)]
    if not given:
        given = [] if equal_answers(rows) else list(rows)
        kept = [row for row in given if row.exact]
    of = f"{len(kept)} of {len(given)} questions it answers as the base does"
    if not given or not case.rule("answers kept", len(kept) / len(given), of):
        return None
    return Statement("still there", f"The unlearned model still says it when it is simply asked: {of}.")


def comes_back(case: Case, label: Label) -> Statement | None:
    """Some attack gets the answers out of the unlearned model, selection paid for."""
    found = case.report.attack
    tiers = [one for one in found.tiers if one.ran] if found is not None else []
    if not tiers:
        return None
    best = max(tiers, key=lambda one: one.returned - max(0, one.returned_reference))
    text = (
        f"attacks of tier {best.tier} ({best.ran}) brought {best.returned} of {best.asked} answers back word for word"
    )
    text += f", of which the reference says {best.returned_reference} too" if best.returned_reference > 0 else ""
    if case.rule("answers back", float(best.returned - max(0, best.returned_reference)), text):
        return Statement("still there", f"The unlearned model still knows it: {text}.")
    telling = [one for one in tiers if one.informative and not one.z <= one.floor and not one.p_reference <= one.p]
    if not telling:
        return None
    least = min(telling, key=lambda one: one.p)
    chance = min(1.0, least.p * len(tiers))
    text = (
        f"under {least.worst} answers match their questions (z {least.z:.1f}) as {chance:.2g} of random pairings would"
    )
    if case.rule("matched", chance, text):
        return Statement(
            "still there", f"The unlearned model still tells which answer belongs to which question: {text}."
        )
    return None


def unknown(case: Case, label: Label) -> Statement:
    """Nothing that was measured tells."""
    return Statement(
        "unknown",
        "Whether the unlearned model still knows it was not measured: putting states of the base back says where the"
        " effect lives, and no more.",
        tuple(lacking(case)),
    )


STATEMENTS: tuple[Callable[[Case, Label], Statement | None], ...] = (
    same_weights,
    swapped,
    base_is_ignorant,
    answers_as_before,
    comes_back,
    unknown,
)
"""In this order; the first that says something is the statement. The last one always does."""


def lacking(case: Case) -> Iterator[str]:
    """The measurements that a statement would need and the report lacks, each with the command that measures it."""
    rows = target_rows(case)
    if not rows:
        yield "what the unlearned model says by itself was not asked (`ckdiff behave --questions FILE`)"
    elif not any(row.answer_given.strip() for row in rows):
        yield "whether the base answers right is not known: the questions have no given answers (--questions FILE)"
    if equal_answers(rows):
        yield "the base says the same to every question: such answers tell nothing (--questions FILE with other ones)"
    yield from _lacking_attacks(case.report.attack)


def _lacking_attacks(found: AttackReport | None) -> Iterator[str]:
    """The measurements that attacks lack to show that nothing comes back."""
    if found is None:
        yield "no attack was tried on the unlearned model (`ckdiff attack --questions FILE`)"
    for one in () if found is None else found.tiers:
        if one.missing:
            yield f"tier {one.tier}: attacks that were not measured: {one.missing} (`ckdiff attack --questions FILE`)"
        elif not one.able:
            yield f"tier {one.tier} could not have shown anything (`ckdiff attack --questions FILE` with more facts)"
    if found is not None and not any(one.tier == 2 and one.ran for one in found.tiers):
        yield "no attack trained the unlearned model's weights, which is what brings suppressed answers back most often"
    if found is None or not found.reference:
        yield "no model that never knew it was measured beside it (--reference MODEL --reference-kind retrained)"


def target_rows(case: Case) -> Sequence[AnswerRecord]:
    """The answers about what was to be unlearned."""
    target = case.evidence.answers.get("target")
    return () if target is None else target.questions
