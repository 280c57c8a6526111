"""Texts become ids: `encode_texts(tokenizer, segments, ...)`, and ids become padded batches: `pad(sequences, device)`.

Padding is on the right and no mask is given, which is exact for causal models. What is scored of a plain text is every
token but the first, which nothing predicts; of an answer its own tokens, not those of its question.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ckdiff.probes.wording.wording import Wording
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

    def rows(self, first: int, end: int) -> Padded:
        """Some of its texts."""
        return Padded(self.ids[first:end], self.labels[first:end])


def encode_texts(tokenizer: Any, segments: Sequence[Segment], template: str, length: int) -> list[Tokens]:
    """Segments as ids, cut to a length; what has no token to score is left out."""
    wording = Wording(tokenizer, template)
    cut = [_encode(wording, segment, length) for segment in segments]
    return [tokens for tokens in cut if len(tokens.ids) > tokens.first]


def _encode(wording: Wording, segment: Segment, length: int) -> Tokens:
    if segment.prompt is None:
        ids = wording.encoder.tokenizer(segment.text)["input_ids"]
        return Tokens(tuple(map(int, ids))[:length], 1)
    ((prompt,),) = wording.continued([Question(segment.prompt)], [[segment.text]])
    return Tokens((prompt.ids + prompt.answer)[:length], len(prompt.ids))


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
