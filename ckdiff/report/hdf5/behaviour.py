"""Behaviour as groups of a report file: `write_behaviour(found)`, `read_behaviour(node)`.

    target, unrelated      question: what both models say;   summary (a group inside): the means, one row
    choices                question, question x choice;      summary
    neutral                passage;                          summary
    history, notes         point; note

Means stand as `bleu`, `bleu_low`, `bleu_high`. They have a group of their own, because the questions have columns of
the same names.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.errors import ReportError
from ckdiff.report.hdf5.columns import (
    COUNT,
    FLAG,
    IDS,
    NOTES,
    NUMBER,
    TEXT,
    Array,
    Line,
    Node,
    Table,
    read_table,
    scale,
    write_rows,
    write_table,
)
from ckdiff.report.schema.behaviour import (
    ANSWER_SETS,
    MEAN_PARTS,
    AnswerRecord,
    AnswerSet,
    Behaviour,
    ChoiceRecord,
    ChoiceSet,
    HistoryPoint,
    Mean,
    NeutralRecord,
    NeutralSet,
    flat_means,
)
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Sequence


ANSWERS = Table(
    AnswerRecord,
    "question",
    "",
    {
        **dict.fromkeys(("text", "answer_base", "answer_unlearned"), TEXT),
        **dict.fromkeys(("answer_base_ids", "answer_unlearned_ids"), IDS),
        "bleu": NUMBER,
        "exact": FLAG,
        **dict.fromkeys(("logprob_base", "logprob_unlearned"), NUMBER),
    },
)


CHOICES = Table(
    dict,
    "question",
    "",
    {
        "text": TEXT,
        "choice_count": COUNT._replace(comment="choices of the question; what lies beyond them is empty or NaN"),
        **dict.fromkeys(("answer", "picked_base", "picked_unlearned"), COUNT),
    },
)


CHOICE_NUMBERS = ("logprob_base", "logprob_unlearned")


NEUTRAL = Table(
    NeutralRecord,
    "passage",
    "",
    {"text": TEXT, "tokens": COUNT, **dict.fromkeys(("kl", "nll_base", "nll_unlearned"), NUMBER)},
)


HISTORY = Table(
    HistoryPoint,
    "point",
    "",
    {
        "step": COUNT,
        **dict.fromkeys(("epoch", "loss", "target_bleu", "unrelated_bleu"), NUMBER),
        "state": TEXT._replace(comment="memory: as trained; saved: rounded to the checkpoint's dtypes, as on disk"),
    },
)


ANSWER_MEANS = ("bleu", "exact", "logprob_base", "logprob_unlearned")


CHOICE_MEANS = ("accuracy_base", "accuracy_unlearned", "probability_base", "probability_unlearned")


NEUTRAL_MEANS = ("kl",)


PERPLEXITIES = ("perplexity_base", "perplexity_unlearned")


LABELS = ("name", "source", "digest")


BEHAVIOUR_PARTS = (*ANSWER_SETS, "choices", "neutral", "history", "notes")
"""Groups of a behaviour, not all of which are always there."""


def write_behaviour(found: Behaviour) -> Node:
    """Behaviour as a group: one group a set, and beside them the history and the notes.

    Raises:
        ReportError: two sets of answers of one name, or a set that is neither `target` nor `unrelated`.
    """
    settings = json.dumps(dict(found.settings))
    node = Node({"model_type": found.model_type, "method": found.method, "settings": settings})
    for answers in found.answers:
        if answers.name not in ANSWER_SETS or answers.name in node.groups:
            words = f"a report holds one set of answers of each of the names {' and '.join(ANSWER_SETS)}"
            raise ReportError(f"{words}; there is no place for another one called '{printable(answers.name)}'")
        table = write_table(ANSWERS, answers.questions)
        node.groups[answers.name] = _labelled(table, answers, ANSWER_MEANS, PERPLEXITIES)
    if found.choices is not None:
        node.groups["choices"] = _labelled(_write_choices(found.choices), found.choices, CHOICE_MEANS, ("chance",))
    if found.neutral is not None:
        table = write_table(NEUTRAL, found.neutral.texts)
        node.groups["neutral"] = _labelled(table, found.neutral, NEUTRAL_MEANS, PERPLEXITIES)
    node.groups["history"] = write_table(HISTORY, found.history)
    node.groups["notes"] = write_table(NOTES, map(Line, found.notes))
    return node


def read_behaviour(node: Node) -> Behaviour:
    """The behaviour that a group holds, the target's answers first."""
    groups = node.groups
    return Behaviour(
        model_type=str(node.attributes["model_type"]),
        answers=tuple(_read_answers(groups[name]) for name in ANSWER_SETS if name in groups),
        choices=_read_choices(groups["choices"]) if "choices" in groups else None,
        neutral=_read_neutral(groups["neutral"]) if "neutral" in groups else None,
        method=str(node.attributes["method"]),
        history=read_table(HISTORY, groups.get("history")),
        settings=json.loads(str(node.attributes["settings"])),
        notes=tuple(line.text for line in read_table(NOTES, groups.get("notes"))),
    )


def _labelled(node: Node, found: Any, means: Sequence[str], numbers: Sequence[str]) -> Node:
    """The group of a set with its labels as attributes and its means as a group inside."""
    node.attributes.update({name: getattr(found, name) for name in LABELS if hasattr(found, name)})
    node.groups["summary"] = write_rows(_summary(means, numbers), [flat_means(found)])
    return node


def _summary(means: Sequence[str], numbers: Sequence[str]) -> Table:
    columns = [name + end for name in means for end in MEAN_PARTS]
    return Table(dict, "summary", "", dict.fromkeys((*columns, *numbers), NUMBER))


def _shared(node: Node, means: Sequence[str], numbers: Sequence[str]) -> dict[str, Any]:
    """What `_labelled` wrote, as arguments of the set."""
    (row,) = read_table(_summary(means, numbers), node.groups["summary"])
    values: dict[str, Any] = {name: str(node.attributes[name]) for name in LABELS if name in node.attributes}
    values.update({name: Mean(**{part: row[name + end] for end, part in MEAN_PARTS.items()}) for name in means})
    return values | {name: row[name] for name in numbers}


def _read_answers(node: Node) -> AnswerSet:
    return AnswerSet(**_shared(node, ANSWER_MEANS, PERPLEXITIES), questions=read_table(ANSWERS, node))


def _read_neutral(node: Node) -> NeutralSet:
    return NeutralSet(**_shared(node, NEUTRAL_MEANS, PERPLEXITIES), texts=read_table(NEUTRAL, node))


def _write_choices(found: ChoiceSet) -> Node:
    """Columns on the questions, and tables of questions x choices, as wide as the question with most of them."""
    rows = [flat_means(question) | {"choice_count": len(question.choices)} for question in found.questions]
    node = write_rows(CHOICES, rows)
    width = max((row["choice_count"] for row in rows), default=0)
    node.arrays["choice"] = scale("choice", np.arange(width))
    for name, column, blank in (("choices", TEXT, ""), *((name, NUMBER, np.nan) for name in CHOICE_NUMBERS)):
        cells = [[column.encode(cell) for cell in _padded(row[name], width, blank)] for row in rows]
        values = np.array(cells, dtype=column.dtype).reshape(len(rows), width)
        node.arrays[name] = Array(values, ("question", "choice"))
    return node


def _padded(values: Sequence[Any], width: int, blank: Any) -> list[Any]:
    return [*values, *[blank] * (width - len(values))]


def _read_choices(node: Node) -> ChoiceSet:
    questions = []
    for number, row in enumerate(read_table(CHOICES, node)):
        count = row.pop("choice_count")
        texts = (raw.decode() for raw in _cells(node, "choices", number, count))
        row |= {name: tuple(_cells(node, name, number, count)) for name in CHOICE_NUMBERS}
        questions.append(ChoiceRecord(choices=tuple(texts), **row))
    return ChoiceSet(**_shared(node, CHOICE_MEANS, ("chance",)), questions=tuple(questions))


def _cells(node: Node, name: str, number: int, count: int) -> list[Any]:
    cells: list[Any] = node.arrays[name].values[number, :count].tolist()
    return cells
