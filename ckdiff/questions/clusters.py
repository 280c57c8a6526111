"""Which questions ask about one fact: `find_clusters(questions, answers)`, one number a question.

Where a file says it (field `cluster`, or `fact`), that is it. Other questions belong together where they have the same
answer, or all but the same words. One answer may stand for two facts ("Paris", or "yes"): then a file says so by its
own clusters. Two facts taken for one only widen an interval; one fact taken for two makes it a lie. Paraphrases in
other words and with other answers stay apart, unless a file says that they belong together.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ckdiff.questions.questions import Question

NEAR = 0.75
"""Jaccard index of two questions' character trigrams from which on they are one question in all but the same words.

Of 900 pairs of questions about one concept of ConceptVectors none has more than 0.64; a comma, a capital letter or
another article leave 0.8 and more of a question of eight words. Questions with different numbers in them are never
near: "chapter 1" and "chapter 2" differ in nothing else.
"""


def find_clusters(questions: Sequence[Question], answers: Sequence[str]) -> tuple[int, ...]:
    """The cluster of each question, numbered from 0 in the order of their first ones.

    Single linkage: what is linked with a question of a cluster belongs to it.

    Args:
        questions: as they were asked.
        answers: what was scored for each, as text.
    """
    group = list(range(len(questions)))

    def link(one: int, other: int) -> None:
        first, second = sorted((group[one], group[other]))
        group[:] = [first if number == second else number for number in group]

    same: dict[tuple[str, str], int] = {}
    for number, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        key = ("answer", _plain(answer)) if question.cluster is None else ("file", question.cluster.casefold())
        link(same.setdefault(key, number), number)
    shapes = {n: (_trigrams(one.text), _numbers(one.text)) for n, one in enumerate(questions) if one.cluster is None}
    for one, (own, counted) in shapes.items():
        for other, (theirs, known) in shapes.items():
            if other < one and counted == known and _near(own, theirs):
                link(other, one)
    return in_order(group)


def clusters_note(clusters: Sequence[int]) -> list[str]:
    """A sentence where several questions count as one; else none."""
    count = len(set(clusters))
    if count == len(clusters):
        return []
    return [
        f"{len(clusters)} questions count as {count}, because some ask about one fact (the same `cluster` or `fact` in"
        " their file, the same answer, or all but the same words): intervals are over facts, and `cluster` in the file"
        " says which these are"
    ]


def in_order(group: Iterable[int]) -> tuple[int, ...]:
    """The same groups, numbered from 0 in the order in which they come."""
    places: dict[int, int] = {}
    return tuple(places.setdefault(number, len(places)) for number in group)


def _plain(text: str) -> str:
    """A text without case and punctuation; as it is where nothing else is in it."""
    return " ".join(_words(text)) or text.strip()


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())


def _numbers(text: str) -> list[str]:
    return re.findall(r"\d+", text)


def _trigrams(text: str) -> frozenset[str]:
    line = f" {_plain(text)} "
    return frozenset(line[start : start + 3] for start in range(len(line) - 2))


def _near(one: frozenset[str], other: frozenset[str]) -> bool:
    shared = len(one & other)
    return shared >= NEAR * (len(one) + len(other) - shared)
