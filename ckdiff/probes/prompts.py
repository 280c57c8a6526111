"""Questions become ids: prompts, answers, and batches padded on the right.

The ids that are scored are the prompt's followed by the answer's, the generated ids themselves, never decoded and
encoded again. What predicts an answer's token stands one position before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ckdiff.errors import CkdiffError
from ckdiff.scoring.settings import DEFAULT_TEMPLATE

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


def prompts(
    tokenizer: Any, questions: Sequence[Question], template: str = DEFAULT_TEMPLATE, chat: bool = False
) -> list[Prompt]:
    """Each question as a prompt.

    Args:
        tokenizer: of the base.
        questions: to ask.
        template: with `{q}` where the question goes.
        chat: put the question into the tokenizer's chat template instead.

    Raises:
        PromptError: the template has no place for a question, or the tokenizer no chat template.
    """
    if chat and not getattr(tokenizer, "chat_template", None):
        raise PromptError("--chat-template: the tokenizer of the base has none; leave it out")
    if not chat and "{q}" not in template:
        raise PromptError("--prompt-template: there is no {q} in it; write {q} where the question goes")
    if "\0" in template or any("\ud800" <= char <= "\udfff" for char in template):
        raise PromptError("--prompt-template: holds what is no text; write it in UTF-8, without NUL")
    found = []
    for question in questions:
        if chat:
            turns = [{"role": "user", "content": question.text}]
            ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=True)
            ids = ids["input_ids"]
        else:
            ids = tokenizer(template.replace("{q}", question.text))["input_ids"]
        if not ids:
            raise PromptError(f"question {question.text[:60]!r}: no token comes out of it; use another template")
        found.append(Prompt(question, tuple(int(token) for token in ids)))
    return found


def given_answer(tokenizer: Any, answer: str, tokens: int) -> tuple[int, ...]:
    """The first ids of an answer from the question file, as it would follow `Answer:`."""
    ids = tokenizer(f" {answer.strip()}", add_special_tokens=False)["input_ids"]
    return tuple(int(token) for token in ids[:tokens])


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
