"""What both models say about a topic: `ask_topic(models, topic, way)`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ckdiff.discovery.candidates import STUBS
from ckdiff.probes.forcing import forced_logprobs
from ckdiff.probes.live.generation import greedy
from ckdiff.questions.questions import Question
from ckdiff.report.schema.discovery import TopicAnswer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.discovery.opening import Models
    from ckdiff.probes.forcing import Way

TOKENS = 24
"""Of an answer, at most."""


def ask_topic(models: Models, topic: str, way: Way) -> tuple[TopicAnswer, ...]:
    """Questions about a topic, both greedy answers, and how much less probable the base's has become.

    The base must be loaded; the unlearned model is loaded meanwhile. None of no topic.
    """
    if not topic:
        return ()
    asked = models.wording.prompts([Question(text.replace("{x}", topic)) for text in STUBS])
    said = greedy(models.base, [one.ids for one in asked], TOKENS, models.stops, way.batch_size)
    prompts = [replace(one, answer=tuple(answer)) for one, answer in zip(asked, said, strict=True) if answer]
    known = forced_logprobs(models.base, prompts, way)
    models.unlearned.load()
    left = forced_logprobs(models.unlearned, prompts, way)
    other = greedy(models.unlearned, [one.ids for one in prompts], TOKENS, models.stops, way.batch_size)
    models.unlearned.unload()
    drops = [float((a - b).mean()) for a, b in zip(known, left, strict=True)]
    return tuple(
        TopicAnswer(prompt.question.text, _text(models, prompt.answer), _text(models, theirs), drop)
        for prompt, theirs, drop in zip(prompts, other, drops, strict=True)
    )


def _text(models: Models, ids: Sequence[int]) -> str:
    return str(models.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()
