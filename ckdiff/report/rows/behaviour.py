"""The rows of a behaviour: one a question that both models answered.

Where there was none they are of multiple-choice questions, or else of neutral texts.
"""

from __future__ import annotations

from dataclasses import fields
from itertools import chain
from typing import TYPE_CHECKING, get_args

from ckdiff.report.schema.behaviour import NeutralRecord
from ckdiff.report.schema.report import Side
from ckdiff.report.words.behaviour import choice_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckdiff.report.schema.behaviour import AnswerSet, Behaviour, ChoiceSet, NeutralSet

ANSWER = ("text", "answer_base", "answer_unlearned", "bleu", "exact", "logprob_base", "logprob_unlearned")

NEUTRAL = tuple(field.name for field in fields(NeutralRecord))


def rows(found: Behaviour | None) -> Iterator[Sequence[object]]:
    """The names of the columns, then every question of the first kind that was asked."""
    answered = found is not None and any(one.questions for one in found.answers)
    if found is not None and found.choices is not None and not answered:
        return _choice_rows(found.choices)
    if found is not None and found.neutral is not None and not answered:
        return _neutral_rows(found.neutral)
    return _answer_rows(found.answers if found else ())


def _answer_rows(sets: Iterable[AnswerSet]) -> Iterator[Sequence[object]]:
    yield ["set", *ANSWER, "tokens_base", "tokens_unlearned", "chrf"]
    for one in sets:
        for row in one.questions:
            tokens = len(row.answer_base_ids), len(row.answer_unlearned_ids)
            yield [one.name, *(getattr(row, name) for name in ANSWER), *tokens, row.chrf]


def _choice_rows(found: ChoiceSet) -> Iterator[Sequence[object]]:
    sides = get_args(Side)
    yield ["set", "text", "choices", "answer", *(f"{name}_{side}" for side in sides for name in ("picked", "right"))]
    for row in found.questions:
        picks = [(choice_text(row, index), index == row.answer) for index in (row.picked_base, row.picked_unlearned)]
        yield [found.name, row.text, len(row.choices), choice_text(row, row.answer), *chain.from_iterable(picks)]


def _neutral_rows(found: NeutralSet) -> Iterator[Sequence[object]]:
    yield NEUTRAL
    for row in found.texts:
        yield [getattr(row, name) for name in NEUTRAL]
