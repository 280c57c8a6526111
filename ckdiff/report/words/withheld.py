"""A report without the texts of questions, answers and topics: `withhold(report)`. Numbers stay as they are.

For reports whose answers are private, or dangerous to read. A question is called by its number in its file, an answer
by whether both models give the same one; ids of tokens, which are texts too, are 0.
"""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ckdiff.report.schema.attack import AttackQuestion, AttackRow, ReturnedAnswer
from ckdiff.report.schema.behaviour import AnswerRecord, ChoiceRecord, NeutralRecord
from ckdiff.report.schema.campaign import Campaign
from ckdiff.report.schema.depth import DepthQuestion
from ckdiff.report.schema.discovery import (
    CandidateRow,
    DiscoveryReport,
    GroupSpan,
    LostGroup,
    LostWord,
    NeuronFall,
    TopicAnswer,
    WeightWord,
)
from ckdiff.report.schema.probe import QuestionRecord
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ckdiff.report.schema.report import Report

    Hide = Callable[[Any, int], Mapping[str, Any]]

T = TypeVar("T")

WITHHELD = "Texts of questions and answers are left out (--no-answers); the numbers are about them."
SAME, OTHER = "(withheld)", "(something else)"
"""In the place of an answer, and of one that is another than the base's."""
HIDDEN_TOKENS = re.compile(r"^holds .*(?= of an answer)", re.DOTALL)
"""How the note on a form of the questions names what it gives away."""
SECTIONS = ("probe", "behaviour", "attack", "depth", "discovery")
"""The sections that hold texts."""


def _instead(text: str, words: str = SAME) -> str:
    """These words for a text; nothing stays nothing."""
    return words if text.strip() else text


def _asked(one: QuestionRecord | AttackQuestion | DepthQuestion, number: int) -> Mapping[str, Any]:
    return {"text": f"question {number}", "answer": _instead(one.answer), "answer_ids": (0,) * len(one.answer_ids)}


def _answered(one: AnswerRecord, number: int) -> Mapping[str, Any]:
    same = one.answer_unlearned == one.answer_base
    return {
        "text": f"question {number}",
        "answer_base": _instead(one.answer_base),
        "answer_unlearned": _instead(one.answer_unlearned, SAME if same else OTHER),
        "answer_base_ids": (0,) * len(one.answer_base_ids),
        "answer_unlearned_ids": (0,) * len(one.answer_unlearned_ids),
        "answer_given": _instead(one.answer_given),
    }


HIDING: Mapping[type, Hide] = {
    AnswerRecord: _answered,
    QuestionRecord: _asked,
    DepthQuestion: _asked,
    AttackQuestion: lambda one, number: {
        **_asked(one, number),
        "matched": _instead(one.matched),
        "said_unlearned": _instead(one.said_unlearned, SAME if one.said_unlearned == one.answer else OTHER),
    },
    AttackRow: lambda one, _: {"note": HIDDEN_TOKENS.sub("holds a piece", one.note)},
    ReturnedAnswer: lambda one, _: {"said": _instead(one.said)},
    ChoiceRecord: lambda one, number: {
        "text": f"question {number}",
        "choices": tuple(f"choice {place}" for place, _ in enumerate(one.choices, 1)),
    },
    NeutralRecord: lambda _, number: {"text": f"text {number}"},
    LostWord: lambda one, number: {"word": f"word {number}", "token": 0, "where": _instead(one.where)},
    LostGroup: lambda one, _: {"words": tuple(f"word {place}" for place, _ in enumerate(one.words, 1))},
    GroupSpan: lambda one, _: {"before": _instead(one.before), "text": _instead(one.text)},
    NeuronFall: lambda one, _: {"tokens": tuple(map(_instead, one.tokens))},
    WeightWord: lambda _, number: {"word": f"word {number}", "token": 0},
    CandidateRow: lambda _, number: {"name": f"candidate {number}"},
    TopicAnswer: lambda one, number: {
        "question": f"question {number}",
        "base": _instead(one.base),
        "unlearned": _instead(one.unlearned, SAME if one.unlearned == one.base else OTHER),
        "guided": _instead(one.guided, SAME if one.guided == one.base else OTHER),
    },
    # Its notes may quote what it found.
    DiscoveryReport: lambda one, _: {"topic": _instead(one.topic), "notes": ()},
}
"""What takes the place of the texts of a record; its number among its own kind is given, from 1."""


def withhold(found: Report | Campaign) -> Report | Campaign:
    """A report without texts; a campaign holds none."""
    if isinstance(found, Campaign):
        return found
    names = dict(sorted(_questions(found), key=lambda pair: -len(pair[0])))
    hidden = {name: _without_texts(getattr(found, name)) for name in SECTIONS}
    return replace(found, **hidden, verdict=_rename(found.verdict, names))


def _without_texts(value: T, number: int = 0) -> T:
    """The same record, and what is within it, without texts."""
    if isinstance(value, tuple):
        return cast("T", tuple(_without_texts(one, place) for place, one in enumerate(value, 1)))
    if not is_dataclass(value) or isinstance(value, type):
        return value
    within = {one.name: _without_texts(getattr(value, one.name)) for one in fields(value)}
    return replace(value, **within | dict(HIDING[type(value)](value, number)) if type(value) in HIDING else within)


def _questions(report: Report) -> list[tuple[str, str]]:
    """Every question that a sentence of the verdict may quote, and what it is called instead."""
    sets = () if report.behaviour is None else report.behaviour.answers
    rows: list[Any] = [*(report.attack.questions if report.attack is not None else ())]
    asked = [(row.text, f"question {number}") for number, row in enumerate(rows, 1)]
    asked += [(row.text, f"question {number}") for one in sets for number, row in enumerate(one.questions, 1)]
    return [(said, name) for text, name in asked for said in (text, printable(text)) if said.strip()]


def _rename(value: T, names: Mapping[str, str]) -> T:
    """The same, with each of these texts replaced in every sentence."""
    if isinstance(value, str):
        for text, name in names.items():
            value = cast("T", value.replace(text, name))  # type: ignore[attr-defined]
        return value
    if isinstance(value, tuple):
        return cast("T", tuple(_rename(one, names) for one in value))
    if not is_dataclass(value) or isinstance(value, type):
        return value
    return replace(value, **{one.name: _rename(getattr(value, one.name), names) for one in fields(value)})
