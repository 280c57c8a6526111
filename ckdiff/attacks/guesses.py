"""Answers that come back by chance: `chance_of_returns(back, guessed)`, how likely they are to a model that never knew.

Two words of a small closed world can be guessed, above all by a model that was just trained on answers of that kind; a
sentence cannot. How likely a guess is says the reference, under the same attack: by the probability that it gives to
the whole answer, or to the answers of other questions in its place, where that is more. A model that is sure of a wrong
answer finds the right one improbable, and would be as sure of it had it guessed otherwise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ckdiff.scoring.guesses import at_least

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

    from ckdiff.attacks.answers import Sought
    from ckdiff.attacks.case import Reading

    Chances = dict[int, float]
    """By cluster the probability that an answer of it is said."""

Setting = TypeVar("Setting", bound="Hashable")


def chances_of(sought: Sequence[Sought], reading: Reading, places: Iterable[int]) -> Chances:
    """By cluster the chance that a model which reads so says its answer, or would, had it guessed otherwise.

    Args:
        sought: the answers.
        reading: of a model that does not know them.
        places: numbers of the questions whose answer could come back.
    """
    found: Chances = {}
    for place in places:
        found[sought[place].cluster] = found.get(sought[place].cluster, 0.0) + _chance(sought, reading, place)
    return {cluster: min(1.0, chance) for cluster, chance in found.items()}


def _chance(sought: Sequence[Sought], reading: Reading, place: int) -> float:
    """Of one question; nothing where it was not read."""
    own = float(np.exp(reading.log_p[place]))
    known = [0.0 if math.isnan(own) else own]
    if _is_matched(sought[place]):
        row = reading.table[sought[place].cluster]
        exchanged = [math.exp(row[one.cluster] * len(one.scored)) for one in sought if row[one.cluster] <= 0]
        known += [float(np.mean(exchanged))] if exchanged else []
    return max(known)


def _is_matched(one: Sought) -> bool:
    """Whether what must come back is what its table holds, and not a sentence of the base's own instead."""
    return one.matched == one.answer or one.base_right is True


def greatest(every: Iterable[Chances]) -> Chances:
    """By cluster the greatest chance: steps of one training are one guess, looked at several times."""
    found: Chances = {}
    for chances in every:
        found |= {cluster: max(chance, found.get(cluster, 0.0)) for cluster, chance in chances.items()}
    return found


def chance_of_returns(
    back: Mapping[Setting, Collection[int]], guessed: Mapping[Setting, Chances], tries: Mapping[Setting, int]
) -> float:
    """The chance that guesses bring back as many answers in the best of all settings; 1 where none came back.

    Args:
        back: by setting the clusters that came back, nothing included.
        guessed: by setting the chances of a model that does not know; settings that are not there take the greatest of
            all others.
        tries: by setting how many guesses a reply took at most; where nothing is said, one.

    Returns:
        The least chance of a setting times their number, at most 1; NaN without chances.
    """
    some = {setting: found for setting, found in back.items() if found}
    if not some:
        return 1.0
    if not guessed:
        return math.nan
    rest = greatest(guessed.values())
    least = min(
        at_least(len(found), (min(1.0, tries.get(setting, 1) * one) for one in guessed.get(setting, rest).values()))
        for setting, found in some.items()
    )
    return min(1.0, least * len(back))
