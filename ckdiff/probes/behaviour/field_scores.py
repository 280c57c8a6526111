"""What benchmarks of the field report of answers that both models are asked for; the formulas are `scoring.field`.

They are about the answers of the question file where every question of a set has one, as benchmarks want it, and about
the base's own greedy ones elsewhere, which costs no forward. A measure is one row of `MEASURES`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ckdiff.probes.behaviour.neutral_scores import MOST_TOKENS
from ckdiff.report.schema.behaviour import FieldMeasure
from ckdiff.scoring import field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ckdiff.probes.forcing import Read
    from ckdiff.probes.prompts import Prompt
    from ckdiff.probes.wording.wording import Wording
    from ckdiff.questions.questions import Question


class Told(NamedTuple):
    """One question and one model.

    Attributes:
        said: the model's own greedy answer.
        wanted: what it is held against.
        read: this answer as the model reads it.
        others: where there are false answers, the answer that they are held against, then they; else nothing.
    """

    said: str
    wanted: str
    read: Read
    others: Sequence[Read]


def given_prompts(wording: Wording, questions: Sequence[Question], context: int | None) -> list[list[Prompt]]:
    """By question the file's answer, then, where it has false ones, the answer in other words and the false ones.

    Each is cut to what fits into the context, and to `MOST_TOKENS`. Nothing for every question where one has no answer.
    """
    nothing: list[list[Prompt]] = [[] for _ in questions]
    if not all((one.answer or "").strip() for one in questions):
        return nothing
    texts = [
        (str(one.answer), *((one.reworded or str(one.answer), *one.wrong) if one.wrong else ())) for one in questions
    ]
    found = [[_cut(one, context) for one in every] for every in wording.continued(questions, texts)]
    return found if all(one.answer for every in found for one in every) else nothing


def _cut(prompt: Prompt, context: int | None) -> Prompt:
    room = MOST_TOKENS if context is None else min(MOST_TOKENS, context - len(prompt.ids))
    return replace(prompt, answer=prompt.answer[: max(0, room)])


def field_measures(
    told: Mapping[str, Sequence[Told]], clusters: Sequence[int], target: bool
) -> tuple[FieldMeasure, ...]:
    """Every measure that there is a value of, in the order of the table; one a question may lack is NaN there.

    Args:
        told: of base and unlearned model, and of the reference where there is one.
        clusters: of the questions.
        target: they are about what was to be forgotten.
    """
    found = []
    for name, value in MEASURES.items():
        each = {side: np.array([value(one) for one in every]) for side, every in told.items()}
        if any(np.isfinite(values).any() for values in each.values()):
            sides: dict[str, Any] = {f"each_{side}": tuple(map(float, values)) for side, values in each.items()}
            sides |= {side: field.mean_measure(name, values, clusters, target) for side, values in each.items()}
            found.append(FieldMeasure(name, **sides))
    return tuple(found)


def _truth_ratio(one: Told) -> float:
    correct, *wrong = (float(read.log_p.mean()) for read in one.others) if one.others else (math.nan,)
    return field.truth_ratio(correct, wrong) if wrong else math.nan


MEASURES: dict[str, Callable[[Told], float]] = {
    "probability": lambda one: field.probability(one.read.log_p.numpy()),
    "exact_memorisation": lambda one: field.exact_memorisation(one.read.first.numpy()),
    "extraction_strength": lambda one: field.extraction_strength(one.read.first.numpy()),
    "rouge_l_recall": lambda one: field.rouge_l(one.said, one.wanted).recall,
    "rouge_l_f": lambda one: field.rouge_l(one.said, one.wanted).f,
    "truth_ratio": _truth_ratio,
}
"""What is measured of each question, by its name in the report."""
