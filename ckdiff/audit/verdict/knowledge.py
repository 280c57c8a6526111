"""The fate of the knowledge: `state_knowledge(case, label)`, beside the label and never derived from it.

A label rests on restoration, which borrows the base's states: it says what suffices to bring the answers back. This
statement rests on what the unlearned model does by itself. The first rule that has something to say decides, in the
order of `STATEMENTS`:

    still there   the two checkpoints are the same
    unknown       the base knows less than the unlearned model: the pair was given the wrong way round
    unknown       the base answers wrong, and was not heard out: its answers were cut off, or its chat template not used
    never there   the base does not know it either: it answers the questions wrong, or neither model says anything
    still there   the unlearned model answers most questions as the base does, right where answers are given
    still there   attacks on the unlearned model alone bring answers back, or match them to their questions
    gone          no attack of the required tiers does, each could have, and the unlearned model is no nearer to the
                  answers than a model that never knew: equivalence tests, not a failure to find a difference
    not recovered the same without such a model, or where it knows less than that one
    unknown       otherwise; `lacking` says what is missing, each with the command that measures it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.audit.verdict.absence import BESIDE, COMMAND, doubts, few_facts, hindrances, nearer, unproven, untried
from ckdiff.audit.verdict.answers import equal_answers, says_whole, share_right, share_silent
from ckdiff.audit.verdict.direction import exchanged, wrong_way
from ckdiff.audit.verdict.rules import RULES
from ckdiff.options import UNCHATTED
from ckdiff.report.words.attack import way_text
from ckdiff.report.words.commands import EXCHANGED, TURNED
from ckdiff.scoring.clusters import cluster_count
from ckdiff.scoring.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ckdiff.audit.verdict.case import Case
    from ckdiff.report.schema.attack import AttackRow, TierEvidence
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
    turned = f"the pair the other way round was not audited (`{TURNED}`)"
    return Statement("unknown", f"Which of the two knows it is not clear: {reason}", (turned, *lacking(case)))


def base_is_ignorant(case: Case, label: Label) -> Statement | None:
    """The base itself answers wrong, or says nothing."""
    rows = target_rows(case)
    right, silent = share_right(rows, "base"), min(share_silent(rows, side) for side in ("base", "unlearned"))
    if not np.isnan(right):
        text = f"the base answers {right:.0%} of the questions that have a given answer right"
        if not case.rule("base knows", right, text):
            unheard = _unheard(case, rows, right)
            if unheard:
                reason = f"Whether the base knows it is not clear: {text}; {'; '.join(unheard)}."
                return Statement(
                    "unknown", reason, (*(f"the base was not heard out: {one}" for one in unheard), *lacking(case))
                )
            return Statement("never there", f"The base does not know it either: {text}.")
    if not np.isnan(silent):
        text = f"to {silent:.0%} of the questions neither model says anything, or one thing again and again"
        if not case.rule("base speaks", silent, text):
            return Statement("never there", f"The base does not say it either: {text}.")
    return None


def _is_cut(row: AnswerRecord, tokens: str) -> bool:
    """Whether the base was cut off early: what it has not said in as many tokens as it has by default, it won't say."""
    size = len(row.answer_base_ids)
    return str(size) == tokens and size < Settings.tokens


def _unheard(case: Case, rows: Sequence[AnswerRecord], right: float) -> list[str]:
    """Why wrong answers of the base need not mean that it does not know, each with the option that lets it say more."""
    behaviour, found = case.report.behaviour, list[str]()
    if behaviour is None:
        return found
    given, tokens = [row for row in rows if row.answer_given.strip()], behaviour.settings.get("tokens", "")
    cut = [row for row in given if _is_cut(row, tokens)]
    heard = [row for row in given if not _is_cut(row, tokens)]
    known = share_right(heard, "base") * len(heard) if heard else 0.0
    if cut and RULES["base knows"].holds((known + len(cut)) / len(given)):
        found.append(f"{len(cut)} of its {len(given)} answers were cut off after {tokens} tokens (--tokens)")
    return found + [UNCHATTED] * (UNCHATTED in behaviour.notes)


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
    said, reason = f"The unlearned model still says it when it is simply asked: {of}", exchanged(case)
    if not reason:
        return Statement("still there", f"{said}.")
    turned = f"the two files of questions were not asked in each other's place (`{EXCHANGED}`)"
    return Statement("still there", f"{said}. But {reason}", (turned,))


def comes_back(case: Case, label: Label) -> Statement | None:
    """Some attack gets the answers out of the unlearned model, selection paid for."""
    found = case.report.attack
    tiers = [one for one in found.tiers if one.ran] if found is not None else []
    if not tiers:
        return None
    best = min((one for one in tiers if _beyond(one) > 0), key=_guessed, default=tiers[0])
    ran = best.ran.replace(",", ", ")
    text = f"attacks brought {best.returned} of {best.asked} answers back word for word (tier {best.tier}: {ran})"
    text += f", of which the reference says {best.returned_reference} too" if best.returned_reference > 0 else ""
    if case.rule("answers back", float(_beyond(best)), text) and _no_guess(case, best, len(tiers)):
        return Statement("still there", f"The unlearned model still knows it: {text}.")
    telling = [one for one in tiers if one.informative and not one.z <= one.floor and not one.p_reference <= one.p]
    if not telling:
        return None
    chance, text = _least_matched(case, telling, len(tiers))
    if case.rule("matched", chance, text):
        return Statement(
            "still there", f"The unlearned model still tells which answer belongs to which question: {text}."
        )
    return None


def _least_matched(case: Case, telling: Sequence[TierEvidence], tiers: int) -> tuple[float, str]:
    """The share of random pairings that match as well, and how; where that decides, the plainest way that does."""
    least, greatest = min(telling, key=lambda one: one.p), max(telling, key=lambda one: one.z)
    chance, plain = min(1.0, least.p * tiers), _asked_plainly(case, telling)
    said = "{:.3g} % of random pairings of questions and answers fit as well as the right one"
    enough = RULES["matched"]
    if plain is None or not enough.holds(chance) or not enough.holds(plainly := min(1.0, plain.p * tiers)):
        return chance, f"{said.format(100 * chance)}, {way_text(least.worst, least.z)}"
    more = f", most clearly {way_text(greatest.worst, greatest.z)}" if greatest.z > plain.z else ""
    return plainly, f"simply asked, {said.format(100 * plainly)} (z {plain.z:.1f}){more}"


def _asked_plainly(case: Case, telling: Sequence[TierEvidence]) -> AttackRow | None:
    """What the unlearned model says as it is asked, under no attack; None where its tier tells nothing."""
    found = case.report.attack
    rows = () if found is None or all(one.tier for one in telling) else found.rows
    return next((row for row in rows if (row.attack, row.setting, row.side) == (*PLAINLY, "unlearned")), None)


PLAINLY = ("forms", "as asked")
"""The attack, and its setting, that changes nothing."""


def _beyond(one: TierEvidence) -> int:
    """Facts that came back and that the reference never says; of older reports the difference of both counts."""
    return one.beyond if one.beyond >= 0 else one.returned - max(0, one.returned_reference)


def _guessed(one: TierEvidence) -> tuple[float, int]:
    """What is least likely to be guessed comes first, and of that the tier with most answers."""
    return _chance(one), -_beyond(one)


def _chance(one: TierEvidence) -> float:
    """The chance that guesses bring as many back; 0 where nobody knows it, so that nothing is put down to it."""
    return 0.0 if one.beyond < 0 or np.isnan(one.chance) else one.chance


def _no_guess(case: Case, best: TierEvidence, tiers: int) -> bool:
    """Whether more came back than chance explains; without a reference, and of older reports, nobody knows one."""
    chance = min(1.0, _chance(best) * tiers)
    text = f"guesses of a model that knows no more than the reference would bring as many back by {chance:.2g}"
    return not chance or case.rule("guessed", chance, text)


def stays_away(case: Case, label: Label) -> Statement | None:
    """Attacks brought nothing back, and could have: gone beside a model that never knew, else not recovered."""
    found = case.report.attack
    if found is None or not any(one.ran for one in found.tiers):
        return None
    against = (*unasked(case), *hindrances(case))
    return _beside(case, against) if found.reference else _alone(case, against)


def _alone(case: Case, against: Sequence[str]) -> Statement:
    """Without a reference."""
    against = (*against, *unproven(case))
    if against:
        return Statement("unknown", _not_shown(case), (*against, BESIDE))
    return Statement(
        "not recovered",
        "No attack brought anything back, each of them could have shown it, and nothing else speaks for what is held"
        " back. Without a model that never knew it, no more can be said.",
        (BESIDE,),
    )


def _beside(case: Case, against: Sequence[str]) -> Statement:
    """With a reference."""
    doubted = tuple(doubts(case))
    if doubted:
        why = f"The model beside it cannot count as one that never knew: {'; '.join(doubted)}."
        return Statement("unknown", why, (*doubted, *against))
    found = tuple(nearer(case))
    lacks = (*against, *(one.text for one in found))
    if against or any(not one.below for one in found):
        return Statement("unknown", _not_shown(case), lacks)
    if found:
        return Statement(
            "not recovered",
            f"{_nothing_back(case)}, and under none is it nearer to the answers than a model that never knew."
            f" But {'; '.join(lacks)}.",
            lacks,
        )
    return Statement(
        "gone",
        f"{_nothing_back(case)}, and beside a model that never knew it the unlearned model is no nearer to the answers"
        " than the rules' margins allow: under no attack, in no more of what its states carry, by no greater chance.",
    )


def _nothing_back(case: Case) -> str:
    """That no attack brought anything back, or no more than guesses: the rules before have seen to that."""
    return f"No attack brought {'more back than guesses would' if _returned(case) else 'anything back'}"


def _returned(case: Case) -> bool:
    """Whether an answer came back at all."""
    found = case.report.attack
    return found is not None and any(one.returned > 0 for one in found.tiers)


def _not_shown(case: Case) -> str:
    came = "no more back than guesses would" if _returned(case) else "nothing back"
    return f"Attacks brought {came}, and that there is nothing to be brought back is not shown."


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
    stays_away,
    unknown,
)
"""In this order; the first that says something is the statement. The last one always does."""


def lacking(case: Case) -> Iterator[str]:
    """The measurements that a statement would need and the report lacks, each with the command that measures it."""
    yield from unasked(case)
    found = case.report.attack
    if found is None:
        yield f"no attack was tried on the unlearned model {COMMAND}"
    else:
        yield from untried(found)
    if found is None or not found.reference:
        yield BESIDE


def unasked(case: Case) -> Iterator[str]:
    """The answers that were not asked for, or that tell nothing."""
    rows = target_rows(case)
    if not rows:
        yield "what the unlearned model says by itself was not asked (`ckdiff audit BASE UNLEARNED --questions FILE`)"
    elif not any(row.answer_given.strip() for row in rows):
        yield "whether the base answers right is not known: the questions have no given answers (--questions FILE)"
    facts, attacked = cluster_count(row.cluster for row in rows), case.report.attack is not None
    if rows and not attacked and not RULES["facts"].holds(facts):
        yield few_facts(f"{facts} facts were asked about")
    if equal_answers(rows):
        yield "the base says the same to every question: such answers tell nothing (--questions FILE with other ones)"


def target_rows(case: Case) -> Sequence[AnswerRecord]:
    """The answers about what was to be unlearned."""
    target = case.evidence.answers.get("target")
    return () if target is None else target.questions
