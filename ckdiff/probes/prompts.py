"""Questions as ids, with their answers, and batches of them padded on the right; `wording` makes them.

The ids that are scored are the prompt's followed by the answer's, the generated ids themselves, never decoded and
encoded again. What predicts an answer's token stands one position before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ckdiff.errors import CkdiffError

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
    """

    question: Question
    ids: tuple[int, ...]
    answer: tuple[int, ...] = ()

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
    """

    first: int
    ids: Tensor
    lengths: tuple[int, ...]
    scored: Tensor


def batches(
    found: Sequence[Prompt], size: int, device: torch.device, alike: Callable[[int], Hashable] = lambda length: None
) -> list[Batch]:
    """Consecutive questions in batches of at most so many, each padded to its own longest.

    Args:
        found: the questions.
        size: the most of one batch.
        device: where ids go.
        alike: equal for two lengths that may share a batch (`LiveModel.regime`).
    """
    result = []
    for first, group in _groups(found, size, alike):
        width = max(prompt.length for prompt in group)
        ids = torch.zeros(len(group), width, dtype=torch.long)
        for row, prompt in enumerate(group):
            ids[row, : prompt.length] = torch.tensor((prompt.ids + prompt.answer)[:-1])
        scored = [row * width + position for row, prompt in enumerate(group) for position in prompt.scored]
        lengths = tuple(prompt.length for prompt in group)
        result.append(Batch(first, ids.to(device), lengths, torch.tensor(scored, device=device)))
    return result


def _groups(
    found: Sequence[Prompt], size: int, alike: Callable[[int], Hashable]
) -> Iterator[tuple[int, Sequence[Prompt]]]:
    """Runs of at most so many that may share a batch, each with the number of its first."""
    first = 0
    for number in range(1, len(found) + 1):
        full = number == len(found) or number - first == size
        if full or alike(found[number].length) != alike(found[first].length):
            yield first, found[first:number]
            first = number
