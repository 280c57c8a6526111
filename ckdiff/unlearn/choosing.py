"""Which texts a training sees: what is forgotten, held on to, and preferred, as ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ckdiff.probes.live.generation import context_length, greedy
from ckdiff.probes.wording.wording import Wording
from ckdiff.questions.questions import Question, general_questions
from ckdiff.questions.segments import Segment
from ckdiff.unlearn.methods import METHODS
from ckdiff.unlearn.recipe import RecipeError
from ckdiff.unlearn.sequences import Tokens, encode_texts, refusals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.probes.live.model import LiveModel
    from ckdiff.unlearn.measuring import Gauge
    from ckdiff.unlearn.recipe import Recipe
    from ckdiff.unlearn.session import Unlearning


def choose_texts(work: Unlearning, gauge: Gauge, live: LiveModel) -> tuple[list[Tokens], list[Tokens], list[Tokens]]:
    """Forget, retain and preferred texts as ids."""
    recipe, inputs, tokenizer = work.recipe, work.inputs, gauge.tokenizer
    length = min(recipe.length, context_length(live) or recipe.length)
    segments = inputs.forget.segments if inputs.forget is not None and recipe.train_on != "answers" else ()
    own = METHODS[recipe.method].preferred
    wanted = recipe.preferred if own == "chosen" else own
    preferred: list[Tokens] = []
    if wanted == "alternate":
        forget, preferred, known = _beside_others(segments, tokenizer, recipe, length)
    else:
        forget = encode_texts(tokenizer, segments, recipe.template, length)
        known = len(forget)
    if known < len(segments):
        work.notes.append(f"{len(segments) - known} forget texts without a token to score were left out")
    retain = encode_texts(tokenizer, inputs.retain.segments if inputs.retain else (), recipe.template, length)
    if recipe.train_on != "text":
        forget += _answers(gauge, length)
        retain += _general(gauge, live, work, length)
    if not forget:
        raise RecipeError("--forget: no token comes out of its texts; give text that the model's tokenizer knows")
    work.counts |= {"forget": len(forget), "forget_tokens": sum(len(text.ids) - text.first for text in forget)}
    work.counts |= {"retain": len(retain), "retain_tokens": sum(len(text.ids) - text.first for text in retain)}
    if wanted == "refusal":
        preferred = _refusals(forget, tokenizer, recipe.seed, context_length(live))
    return forget, retain, preferred


def _beside_others(
    segments: Sequence[Segment], tokenizer: Any, recipe: Recipe, length: int
) -> tuple[list[Tokens], list[Tokens], int]:
    """Each answer to forget as often as the file has others, the others in the same order, and how many answers."""
    if recipe.train_on != "text":
        raise RecipeError(
            f"--train-on {recipe.train_on}: the base's own answers have no others beside them; use --train-on text"
        )
    bare = [segment for segment in segments if not segment.alternates]
    if bare:
        raise RecipeError(
            f"--forget: {len(bare)} of {len(segments)} texts have no other answer beside theirs to be preferred; give"
            " each question a column alternate (or TOFU's perturbed_answer)"
        )
    found = []
    for segment in segments:
        pairs = ([segment, Segment(other, segment.prompt)] for other in segment.alternates)
        both = [encode_texts(tokenizer, pair, recipe.template, length) for pair in pairs]
        found.append([pair for pair in both if len(pair) == 2])
    flat = [pair for pairs in found for pair in pairs]
    return [pair[0] for pair in flat], [pair[1] for pair in flat], sum(map(bool, found))


def _answers(gauge: Gauge, length: int) -> list[Tokens]:
    """The target questions with the base's own answers, ids as they were generated."""
    if not gauge.prompts["target"]:
        raise RecipeError("--train-on answers: there are no target questions; name them with --questions")
    pairs = zip(gauge.prompts["target"], gauge.ids["target"], strict=True)
    return [Tokens((*prompt.ids, *ids)[:length], len(prompt.ids)) for prompt, ids in pairs if len(prompt.ids) < length]


def _general(gauge: Gauge, live: LiveModel, work: Unlearning, length: int) -> list[Tokens]:
    """Bundled general questions with the base's own answers, but none that is measured."""
    measured = {prompt.question.text for name in gauge.prompts for prompt in gauge.prompts[name]}
    questions = [question for question in general_questions().questions if question.text not in measured]
    asked = Wording(gauge.tokenizer, work.recipe.template).prompts(questions)
    work.listener.progress("answers", 0, 1, "the base answers general questions")
    with torch.inference_mode():
        found = greedy(live, [list(prompt.ids) for prompt in asked], work.recipe.tokens, gauge.stops)
    work.listener.progress("answers", 1, 1, "")
    pairs = zip(asked, found, strict=True)
    return [Tokens((*prompt.ids, *ids)[:length], len(prompt.ids)) for prompt, ids in pairs if len(prompt.ids) < length]


def _refusals(forget: Sequence[Tokens], tokenizer: Any, seed: int, context: int | None) -> list[Tokens]:
    """For each question of the forget texts a refusal in the place of its answer."""
    if any(text.first == 1 for text in forget):
        raise RecipeError(
            "--preferred refusal: plain text asks nothing that could be refused; use --preferred retain,"
            " --train-on answers, or a file with questions and answers"
        )
    end = getattr(tokenizer, "eos_token_id", None)
    # Cut behind a prompt, as they would stand there.
    sayings = [prompt.answer for prompt in Wording(tokenizer).continued([Question("?")], [refusals()])[0]]
    found = []
    for number, text in enumerate(forget):
        saying = sayings[int(np.random.default_rng([seed, number]).integers(len(sayings)))]
        ids = (*text.ids[: text.first], *saying, *([] if end is None else [end]))
        found.append(Tokens(tuple(map(int, ids))[:context], text.first))
    return found
