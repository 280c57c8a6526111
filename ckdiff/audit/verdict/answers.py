"""Answers in words: `answers_right(said, given, question)`, and answers that say nothing at all."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.report.schema.behaviour import AnswerRecord

WORD = re.compile(r"\w+", re.UNICODE)

HALF = 0.5
"""Of the words that an answer must say, those that make it right: an answer of one word must say it."""

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


def answers_right(said: str, given: str, question: str) -> bool:
    """Whether an answer holds at least half of the words that only the given answer has.

    An answer that was cut off is held against no more words than it has itself.

    >>> answers_right(" Ada, of course", "Ada", "Who is the mayor?"), answers_right("Bob", "Ada", "Who is the mayor?")
    (True, False)
    """
    there = Counter(words_of(said))
    wanted = telling_words(given, question)[: max(1, sum(there.values()))]
    return bool(wanted) and (Counter(wanted) & there).total() >= HALF * len(wanted)


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

    Args:
        rows: the questions.
        side: "base" or "unlearned".
    """
    given = [row for row in rows if row.answer_given.strip()]
    right = [answers_right(getattr(row, f"answer_{side}"), row.answer_given, row.text) for row in given]
    return sum(right) / len(right) if right else float("nan")


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
