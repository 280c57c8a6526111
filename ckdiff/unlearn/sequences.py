"""Texts become ids: `encode_texts(tokenizer, segments, ...)`, and ids become padded batches: `pad(sequences, device)`.

Padding is on the right and no mask is given, which is exact for causal models. What is scored of a plain text is every
token but the first, which nothing predicts; of an answer its own tokens, not those of its question.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ckdiff.probes.prompts import given_answer, prompts
from ckdiff.questions.questions import Question
from ckdiff.unlearn.methods import IGNORED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ckdiff.questions.segments import Segment


class Tokens(NamedTuple):
    """One text as ids; tokens from `first` on are scored."""

    ids: tuple[int, ...]
    first: int


class Padded(NamedTuple):
    """Texts as one batch; both [sequence, position]."""

    ids: Tensor
    labels: Tensor


def encode_texts(tokenizer: Any, segments: Sequence[Segment], template: str, length: int) -> list[Tokens]:
    """Segments as ids, cut to a length; what has no token to score is left out."""
    found = []
    for segment in segments:
        if segment.prompt is None:
            found.append(Tokens(tuple(map(int, tokenizer(segment.text)["input_ids"])), 1))
        else:
            asked = prompts(tokenizer, [Question(segment.prompt)], template)[0].ids
            found.append(Tokens(asked + given_answer(tokenizer, segment.text, length), len(asked)))
    cut = [Tokens(tokens.ids[:length], tokens.first) for tokens in found]
    return [tokens for tokens in cut if len(tokens.ids) > tokens.first]


def refusals() -> tuple[str, ...]:
    """Ways to say that one does not know, bundled with ckdiff."""
    text = resources.files("ckdiff.unlearn").joinpath("refusals.txt").read_text(encoding="utf-8")
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def pad(sequences: Sequence[Tokens], device: torch.device) -> Padded:
    """Sequences as one batch, padded to its longest."""
    width = max(len(tokens.ids) for tokens in sequences)
    ids = torch.zeros(len(sequences), width, dtype=torch.long)
    labels = torch.full((len(sequences), width), IGNORED)
    for row, tokens in enumerate(sequences):
        values = torch.tensor(tokens.ids)
        ids[row, : len(values)] = values
        labels[row, tokens.first : len(values)] = values[tokens.first :]
    return Padded(ids.to(device), labels.to(device))
