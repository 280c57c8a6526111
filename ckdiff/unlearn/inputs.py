"""Texts and questions from the files that a user names: `read_inputs(spec)`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckdiff.questions.asked import first_questions, own_unrelated
from ckdiff.questions.questions import general_questions, read_questions
from ckdiff.questions.segments import holds_concepts, other_concepts, read_segments
from ckdiff.unlearn.recipe import NEEDLE, RecipeError

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.questions.questions import QuestionSet
    from ckdiff.questions.segments import TextSet
    from ckdiff.unlearn.recipe import UnlearnSpec


@dataclass(frozen=True, slots=True)
class Inputs:
    """Texts to forget, texts to retain, and the questions that are asked meanwhile.

    Attributes:
        forget: texts to forget; None where only the base's own answers are (`Recipe.train_on`).
        retain: texts to hold on to, or None.
        target: questions about what is forgotten, or None.
        unrelated: questions about other things, or None.
    """

    forget: TextSet | None = None
    retain: TextSet | None = None
    target: QuestionSet | None = None
    unrelated: QuestionSet | None = None


def read_inputs(spec: UnlearnSpec) -> Inputs:
    """Every file of a spec, read.

    Raises:
        CkdiffError: one that cannot be used, or nothing to forget.
    """
    of_concepts = spec.forget is not None and holds_concepts(spec.forget)
    named = [path for path in (spec.forget, spec.retain, spec.questions) if path is not None]
    if spec.concept is not None and not any(map(holds_concepts, named)):
        raise RecipeError("--concept: none of the files has concepts to choose from; leave it out, or name others")
    asks = spec.questions or (spec.forget if of_concepts else None)
    target = None if asks is None else read_questions(asks, concept=_concept(asks, spec))
    unrelated = _unrelated_questions(spec, asks, target)
    for condition in spec.recipe.stop_when:
        if {"target_bleu": target, "unrelated_bleu": unrelated, "loss": spec}[condition.name] is None:
            raise RecipeError(f"--stop-when {condition}: there are no such questions; name them with --questions")
    if spec.recipe.method == NEEDLE:
        return Inputs(None, None, target, unrelated)
    if spec.forget is None and spec.recipe.train_on != "answers":
        raise RecipeError("--forget: names nothing to forget; give a file of texts, or --train-on answers")
    if target is None and spec.recipe.train_on != "text":
        raise RecipeError("--train-on: there are no target questions to answer; name them with --questions")
    forget = None
    if spec.forget is not None and spec.recipe.train_on != "answers":
        forget = read_segments(spec.forget, concept=_concept(spec.forget, spec), most=spec.most)
    return Inputs(forget, _retain(spec, of_concepts), target, unrelated)


def _general(spec: UnlearnSpec) -> QuestionSet:
    """The bundled questions; only every other one where the rest is needed to train on."""
    found = general_questions()
    return found if spec.recipe.train_on == "text" else replace(found, questions=found.questions[::2])


def _concept(path: Path, spec: UnlearnSpec) -> str | None:
    """The concept, where a file has concepts to choose from."""
    return spec.concept if holds_concepts(path) else None


def _retain(spec: UnlearnSpec, of_concepts: bool) -> TextSet | None:
    if spec.retain is not None:
        return read_segments(spec.retain, concept=_concept(spec.retain, spec), most=spec.most)
    # Beside answers alone stand the base's answers to general questions: texts would drown them.
    if spec.recipe.train_on != "answers" and of_concepts and spec.forget is not None and spec.concept is not None:
        return other_concepts(spec.forget, spec.concept, most=spec.most)
    return None


def _unrelated_questions(spec: UnlearnSpec, asks: Path | None, target: QuestionSet | None) -> QuestionSet | None:
    if spec.unrelated is not None:
        found = read_questions(spec.unrelated)
    elif asks is None or target is None:
        return None
    else:
        found = own_unrelated(asks, _concept(asks, spec)) or _general(spec)
    asked = {question.text for question in target.questions} if target else set()
    kept = tuple(question for question in found.questions if question.text not in asked)
    return first_questions(replace(found, questions=kept), spec.most_unrelated) if kept else None
