"""Neutral texts: what both models are shown to see what unlearning did to text about nothing in particular.

read_texts(Path("paragraphs.txt"))    # paragraphs between blank lines, or JSON with `text`
neutral_texts()                       # those that come with ckdiff
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ckdiff.probes.prompts import Prompt
from ckdiff.questions.questions import Question
from ckdiff.questions.streams import RecordsError
from ckdiff.questions.values import count_note
from ckdiff.report.schema.behaviour import NeutralRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ckdiff.probes.wording.wording import Encoder


MOST_TOKENS = 512
"""Of one text: a paragraph says enough, and a book must not fill the memory."""


def text_prompts(encoder: Encoder, texts: Sequence[str], context: int | None) -> tuple[list[Prompt], tuple[str, ...]]:
    """Each text as a prompt of its first token and an answer of all others, and notes about what was cut or left out.

    Raises:
        RecordsError: no text has two tokens.
    """
    most = MOST_TOKENS if context is None else min(context, MOST_TOKENS)
    found, short, cut = [], 0, 0
    for text in texts:
        ids = encoder.ids(text)
        if len(ids) < 2:
            short += 1
            continue
        cut += len(ids) > most
        found.append(Prompt(Question(text), ids[:1], ids[1:most]))
    if not found:
        raise RecordsError("--neutral: no text has two tokens; give longer ones")
    notes = count_note(short, "neutral text", "of a single token left out")
    return found, notes + count_note(cut, "neutral text", f"cut to {most} tokens")


def neutral_records(
    prompts: Sequence[Prompt], kl: Sequence[Tensor], base: Sequence[Tensor], unlearned: Sequence[Tensor]
) -> tuple[NeutralRecord, ...]:
    """One record a text, from KL and both models' log p at each of its positions."""
    return tuple(
        NeutralRecord(prompt.question.text, len(prompt.answer), float(k.mean()), -float(b.mean()), -float(u.mean()))
        for prompt, k, b, u in zip(prompts, kl, base, unlearned, strict=True)
    )


def perplexity(logprobs: Sequence[Tensor]) -> float:
    """exp(- sum of log p / number of tokens) over all tokens of all texts; 1 is certainty, infinite where exp is."""
    total = math.fsum(float(part.sum()) for part in logprobs)
    try:
        return math.exp(-total / sum(len(part) for part in logprobs))
    except OverflowError:
        return math.inf
