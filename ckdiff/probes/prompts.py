"""Questions as ids, with their answers, and batches of them padded on the right; `wording` makes them.

The ids that are scored are the prompt's followed by the answer's, the generated ids themselves, never decoded and
encoded again. What predicts an answer's token stands one position before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ckdiff.errors import CkdiffError
from ckdiff.scoring.clusters import ALONE

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from torch import Tensor

    from ckdiff.questions.questions import Question


class PromptError(CkdiffError):
    """A question or a template that cannot be asked of this model."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question as ids.

    Attributes:
        question: as it was asked.
        ids: the prompt's.
        answer: the ids that are scored.
        cluster: of questions about one fact; -1: one of its own.
    """

    question: Question
    ids: tuple[int, ...]
    answer: tuple[int, ...] = ()
    cluster: int = ALONE

    @property
    def length(self) -> int:
        """Positions that a forward needs: the answer's last token predicts nothing."""
        return len(self.ids) + len(self.answer) - 1

    @property
    def scored(self) -> range:
        """The positions whose logits predict the answer's tokens."""
        return range(len(self.ids) - 1, self.length)


@dataclass(frozen=True, slots=True)
class Batch:
    """Questions that go through a layer together.

    Attributes:
        first: number of its first question.
        ids: [question, position], padded on the right.
        lengths: real positions of each question.
        scored: the scored positions of all of them, as indices into [question * position].
        answers: the first scored position of each question.
        others: number of the question whose states stand for each question's in the control of wrong prompts.
    """

    first: int
    ids: Tensor
    lengths: tuple[int, ...]
    scored: Tensor
    answers: tuple[int, ...]
    others: tuple[int, ...]


def batches(
    found: Sequence[Prompt],
    size: int,
    device: torch.device,
    alike: Callable[[int], Hashable] = lambda length: None,
    waste: float = math.inf,
) -> list[Batch]:
    """Consecutive questions in batches of at most so many, each padded to its own longest.

    Args:
        found: the questions.
        size: the most of one batch.
        device: where ids go.
        alike: equal for two lengths that may share a batch (`LiveModel.regime`).
        waste: so many more positions of padding, at most, for one that is longer than the one before it.
    """
    result, others = [], other_questions([prompt.cluster for prompt in found])
    for first, group in _groups(found, size, alike, waste):
        width = max(prompt.length for prompt in group)
        ids = torch.zeros(len(group), width, dtype=torch.long)
        for row, prompt in enumerate(group):
            ids[row, : prompt.length] = torch.tensor((prompt.ids + prompt.answer)[:-1])
        scored = [row * width + position for row, prompt in enumerate(group) for position in prompt.scored]
        result.append(
            Batch(
                first,
                ids.to(device),
                tuple(prompt.length for prompt in group),
                torch.tensor(scored, device=device),
                tuple(prompt.scored.start for prompt in group),
                others[first : first + len(group)],
            )
        )
    return result


def other_questions(clusters: Sequence[int]) -> tuple[int, ...]:
    """For each question the next one about another fact, cyclically; the next one where all are about one.

    >>> other_questions([-1, -1, -1]), other_questions([0, 0, 1]), other_questions([0, 0])
    ((1, 2, 0), (2, 2, 0), (1, 0))
    """
    count = len(clusters)

    def other(number: int) -> int:
        beside = [(number + step) % count for step in range(1, count)]
        apart = (one for one in beside if clusters[one] == ALONE or clusters[one] != clusters[number])
        return next(apart, (number + 1) % count)

    return tuple(map(other, range(count)))


def _groups(
    found: Sequence[Prompt], size: int, alike: Callable[[int], Hashable], waste: float
) -> Iterator[tuple[int, Sequence[Prompt]]]:
    """Runs of at most so many that may share a batch, each with the number of its first."""
    first = 0
    for number in range(1, len(found) + 1):
        full = number == len(found) or number - first == size
        full = full or (number - first) * (found[number].length - found[number - 1].length) > waste
        if full or alike(found[number].length) != alike(found[first].length):
            yield first, found[first:number]
            first = number
