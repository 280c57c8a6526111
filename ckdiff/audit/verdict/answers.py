"""Answers in words: `share_right(rows, "base")`, and answers that say nothing at all."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from ckdiff.scoring.guesses import at_least

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.report.schema.behaviour import AnswerRecord

WORD = re.compile(r"\w+", re.UNICODE)

HALF = 0.5
"""Of the words that an answer must say, those that make it right: an answer of one word must say it."""

SURELY = 0.01
"""The chance at which so many answers that hold half of these words are no chance."""

MOST_REPEATED = 4
"""An answer that says one thing so many times in a row, and little else, says nothing."""


def words_of(text: str) -> list[str]:
    """The words of a text, small letters, without signs.

    >>> words_of("It is in St. Ives.")
    ['it', 'is', 'in', 'st', 'ives']
    """
    return WORD.findall(text.casefold())


def telling_words(answer: str, question: str) -> list[str]:
    """The words of an answer that its question does not hold; all of them where the question holds all.

    >>> telling_words("The mayor is Ada.", "Who is the mayor?"), telling_words("The mayor", "Who is the mayor?")
    (['ada'], ['the', 'mayor'])
    """
    asked, said = set(words_of(question)), words_of(answer)
    return [word for word in said if word not in asked] or said


def share_said(said: str, given: str, question: str) -> float:
    """The share of the words that only the given answer has which an answer holds, in [0, 1].

    An answer that was cut off is held against no more words than it has itself.

    >>> share_said(" Ada, of course", "Ada", "Who is the mayor?"), share_said("Bob Lee", "Ada Lee", "Who is the mayor?")
    (1.0, 0.5)
    """
    there = Counter(words_of(said))
    wanted = telling_words(given, question)[: max(1, sum(there.values()))]
    return (Counter(wanted) & there).total() / len(wanted) if wanted else 0.0


def says_nothing(ids: Sequence[int], text: str) -> bool:
    """Whether an answer is empty, or one token or pair of tokens again and again.

    >>> says_nothing((7, 7, 7, 7, 7, 7), "a a a a a a"), says_nothing((5,), " "), says_nothing((5, 6), "St. Ives")
    (True, True, False)
    """
    if not words_of(text):
        return True
    return any(_repeats(list(ids), size) for size in (1, 2))


def _repeats(ids: list[int], size: int) -> bool:
    """Whether half of the ids and more repeat what stands `size` places before, often enough."""
    same = sum(a == b for a, b in zip(ids, ids[size:], strict=False))
    return same >= (MOST_REPEATED - 1) * size and 2 * same >= len(ids)


def share_right(rows: Sequence[AnswerRecord], side: str) -> float:
    """The share of the questions with a given answer that a model answers right; NaN where none has one.

    Right is what holds more than half of the words that only the given answer has: of a first name and a last name
    both. Where half is enough for more questions, it counts if that is surely no chance: answers to other questions
    hold half of the same words less often.

    Args:
        rows: the questions.
        side: "base" or "unlearned".
    """
    given = [row for row in rows if row.answer_given.strip()]
    if not given:
        return float("nan")
    shares = [_share_by(row, side, row) for row in given]
    most, half = sum(share > HALF for share in shares), sum(share >= HALF for share in shares)
    chances = (_chance(row, side, given) for row in given) if half > most else ()
    return (half if half > most and at_least(half, chances) <= SURELY else most) / len(given)


def _share_by(asked: AnswerRecord, side: str, row: AnswerRecord) -> float:
    """The share of a question's given answer that the answer to one question, the same or another, holds."""
    return share_said(getattr(asked, f"answer_{side}"), row.answer_given, row.text)


def _chance(row: AnswerRecord, side: str, given: Sequence[AnswerRecord]) -> float:
    """How often answers to questions about something else hold half of a given answer; 1 where there are none."""
    mine = words_of(row.answer_given)
    others = [_share_by(one, side, row) >= HALF for one in given if words_of(one.answer_given) != mine]
    return sum(others) / len(others) if others else 1.0


def says_whole(said: str, row: AnswerRecord) -> bool:
    """Whether an answer holds every word that only the given answer has."""
    wanted = Counter(telling_words(row.answer_given, row.text))
    return bool(wanted) and wanted <= Counter(words_of(said))


def share_silent(rows: Sequence[AnswerRecord], side: str) -> float:
    """The share of the questions to which a model says nothing at all; NaN without questions.

    Args:
        rows: the questions.
        side: "base" or "unlearned".
    """
    silent = [says_nothing(getattr(row, f"answer_{side}_ids"), getattr(row, f"answer_{side}")) for row in rows]
    return sum(silent) / len(silent) if silent else float("nan")


def equal_answers(rows: Sequence[AnswerRecord]) -> bool:
    """Whether the base says one and the same to three questions and more."""
    return len(rows) > 2 and len({row.answer_base.strip() for row in rows}) == 1
