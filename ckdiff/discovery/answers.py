"""What both models say about a topic, and where in the model it went: `tell_topic(models, topic, places, way)`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckdiff.discovery.candidates import STUBS
from ckdiff.discovery.directions import norm_gain
from ckdiff.discovery.neurons import answer_places, falls, mean_coefficients
from ckdiff.probes import cost
from ckdiff.probes.behind import force_alike
from ckdiff.probes.forcing import token_logprobs
from ckdiff.probes.live.generation import greedy
from ckdiff.probes.live.guided import Guided
from ckdiff.questions.questions import Question
from ckdiff.report.schema.discovery import TopicAnswer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.discovery.neurons import Place
    from ckdiff.discovery.opening import Models
    from ckdiff.probes.forcing import Way
    from ckdiff.probes.prompts import Prompt
    from ckdiff.report.schema.discovery import LayerFall, NeuronFall

TOKENS = 24
"""Of an answer, at most."""
ALONE = "there is no room in memory for both models at one time: what both say together was not asked"
WEIGHT = 2.0
"""How far both together go from the unlearned model: 1 is the base."""


@dataclass(frozen=True, slots=True)
class Told:
    """Both answers to questions about a topic, and what fell where it is lost."""

    answers: tuple[TopicAnswer, ...] = ()
    layers: tuple[LayerFall, ...] = ()
    neurons: tuple[NeuronFall, ...] = ()
    notes: tuple[str, ...] = ()


def tell_topic(models: Models, topic: str, places: Sequence[Place], way: Way) -> Told:
    """Questions about a topic, both greedy answers, how much less probable the base's has become, and what fell.

    The base must be loaded; it gives way to the unlearned model. Nothing of no topic.

    Args:
        models: the two.
        topic: in words, or "".
        places: where its words are lost; where none are, the base's answers are looked at.
        way: how texts go through a model.
    """
    prompts = _ask_base(models, topic, way) if topic else []
    if not prompts:
        return Told()
    places = places or answer_places(prompts)
    forced, before = force_alike(models.base, prompts, way), mean_coefficients(models.base, places, way.batch_size)
    known, gain, weight = token_logprobs(forced, prompts), norm_gain(models.base), forced.head.weight
    models.base.unload()
    models.unlearned.load()
    left = token_logprobs(force_alike(models.unlearned, prompts, way), prompts)
    other = greedy(models.unlearned, [one.ids for one in prompts], TOKENS, models.stops, way.batch_size)
    after = mean_coefficients(models.unlearned, places, way.batch_size)
    both = _together(models, prompts, way)
    models.unlearned.unload()
    drops = [float((a - b).mean()) for a, b in zip(known, left, strict=True)]
    told = [[_text(models, ids) for ids in said] for said in ([one.answer for one in prompts], other, both)]
    answers = tuple(
        TopicAnswer(prompt.question.text, ours, theirs, drop, together)
        for prompt, drop, ours, theirs, together in zip(prompts, drops, *told, strict=True)
    )
    return Told(answers, *falls(models, before, after, gain, weight), () if any(both) else (ALONE,))


def _together(models: Models, prompts: Sequence[Prompt], way: Way) -> list[list[int]]:
    """What both say together, the unlearned model loaded; nothing where there is no room for the base beside it."""
    base = models.base
    if base.parameter_bytes(base.dtype.itemsize) > cost.free_memory(base.device):
        return [[] for _ in prompts]
    base.load()
    guided = Guided(base, models.unlearned, WEIGHT)
    said = greedy(guided, [one.ids for one in prompts], TOKENS, models.stops, way.batch_size)
    base.unload()
    return said


def _ask_base(models: Models, topic: str, way: Way) -> list[Prompt]:
    """Questions about a topic with the base's answers, where it gives one."""
    asked = models.wording.prompts([Question(text.replace("{x}", topic)) for text in STUBS])
    said = greedy(models.base, [one.ids for one in asked], TOKENS, models.stops, way.batch_size)
    return [replace(one, answer=tuple(answer)) for one, answer in zip(asked, said, strict=True) if answer]


def _text(models: Models, ids: Sequence[int]) -> str:
    return str(models.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()
