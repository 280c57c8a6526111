"""Replies that bring an answer back: `hits(every, said)`, and `tries(every, place, text)`, how many guesses one took.

A reply says the answers that it names first: of so many facts as `most_named` allows, in the order in which they stand.
What it names later is rambling, or a list, and brings nothing back. An answer that stands in a reply to another
question in the place of that one's own is a favourite of the model, and right by chance wherever it is asked for.
Whoever gives the right answer first, or second, may go on at will: that takes nothing from other answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.attacks.answers import holds, normalise
from ckdiff.scoring.matching import LEAST

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ckdiff.attacks.answers import Sought

NAMED = 2
"""Facts whose answers a reply may name before it is a list; of few facts a single one, or it would be half of them."""


def hits(every: Sequence[Sought], said: Sequence[str], first: Collection[int] = ()) -> dict[int, str]:
    """By number of the question the reply that brings its answer back.

    Args:
        every: the answers that are looked for.
        said: a reply to each question.
        first: numbers of questions whose answer is known to come before everything else in the reply.
    """
    right, instead = set(first), set[int]()
    for place, text in enumerate(said):
        found = statements(every, place, text)
        if every[place].cluster in found:
            right.add(place)
        elif place not in right:
            instead |= set(found)
    return {place: said[place] for place in sorted(right) if every[place].cluster not in instead}


def statements(every: Sequence[Sought], place: int, text: str) -> list[int]:
    """The facts whose answers a reply to a question says: those that it names first."""
    return _named(every, place, text)[: most_named(every)]


def tries(every: Sequence[Sought], place: int, text: str) -> int:
    """How many facts' answers a reply names until it comes to its own, so many guesses; 1 where it never does."""
    found = _named(every, place, text)
    return found.index(every[place].cluster) + 1 if every[place].cluster in found else 1


def most_named(every: Sequence[Sought]) -> int:
    """So many facts' answers a reply to one question says at most."""
    return NAMED if len({one.cluster for one in every}) >= LEAST else 1


def _named(every: Sequence[Sought], place: int, text: str) -> list[int]:
    """Every fact whose answer a reply names, in order; of others only what its own question and answer do not hold."""
    own, reply = every[place], f" {normalise(text)} "
    found = {own.cluster: reply.find(f" {own.words} ")} if own.words else {}
    for one in every:
        at = reply.find(f" {one.words} ") if one.counts and one.cluster != own.cluster else -1
        if at >= 0 and not holds(own.words, one.words) and not holds(own.question.text, one.words):
            found[one.cluster] = min(at, found.get(one.cluster, at))
    return sorted((cluster for cluster, at in found.items() if at >= 0), key=lambda cluster: found[cluster])
