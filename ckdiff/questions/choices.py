"""Multiple-choice questions, as WMDP, MMLU, ARC and others publish them: `read_choices(path)`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ckdiff.questions.layouts import choice_layout, fold, question_layout
from ckdiff.questions.records import name_in_errors, read_records
from ckdiff.questions.values import canonical_digest, kind_of, string_of, words_of
from ckdiff.untrusted import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ckdiff.questions.formats import Record


MOST_CHOICES = 26


@dataclass(frozen=True, slots=True)
class Choices:
    """One question, what there is to choose from, and the index of the right one."""

    text: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True, slots=True)
class ChoiceQuestions:
    """Multiple-choice questions in the order of their file.

    Attributes:
        source: one line for people.
        digest: sha256 over the canonical JSON of questions, choices and answers.
    """

    name: str
    questions: tuple[Choices, ...]
    source: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        content = [[one.text, list(one.choices), one.answer] for one in self.questions]
        object.__setattr__(self, "digest", canonical_digest(content))


def read_choices(path: Path) -> ChoiceQuestions:
    """Read multiple-choice questions.

    A question has two to 26 choices: a list, an object by letters, or a column each (`LAYOUTS`). Its answer is the
    index of the right one (from 0), its letter (from A), or its words.

    Raises:
        RecordsError: the file cannot be read, or an entry is not of this form.
    """
    with name_in_errors(path):
        found = read_records(path)
        questions = tuple(map(_choices, found.entries))
        name = path.stem if path.stem.isprintable() else quoted(path.stem)
        return ChoiceQuestions(name, questions, f"{found.name}, {len(questions)} multiple-choice questions")


def _choices(entry: Record) -> Choices:
    place, item = entry.place, entry.value
    if not isinstance(item, dict):
        raise ValueError(f"{place}: {kind_of(item)}; write an object with question, choices and answer")
    asked, row = question_layout(item), choice_layout(item)
    answer = fold(row.answer) if row else "answer"
    missing = {"question": asked, "choices": row, "answer": not answer or answer in item}
    if asked is None or row is None or not all(missing.values()):
        lacking = " and no ".join(name for name, there in missing.items() if not there)
        raise ValueError(f"{place}: no {lacking}; write question, choices and answer")
    text = string_of(place, asked.question[0], item[fold(asked.question[0])])
    if not text:
        raise ValueError(f"{place}: the question is empty; write one")
    given, names = _choices_in(place, row.choices, item)
    if not 2 <= len(given) <= MOST_CHOICES:
        raise ValueError(f"{place}: {len(given)} choices; write a list of 2 to {MOST_CHOICES} strings")
    choices = tuple(words_of(place, f"choice {number}", choice) for number, choice in enumerate(given))
    if not all(choices):
        raise ValueError(f"{place}: choice {choices.index('')} is empty; write its text")
    # TruthfulQA marks the right one among the choices with a 1.
    value = names.index(1) if not answer and names.count(1) == 1 else item.get(answer)
    return Choices(text, choices, _answer(place, value, choices, names))


def _choices_in(place: str, columns: Sequence[str], item: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """The choices, and what the file calls each."""
    if len(columns) > 1:
        kept = [column for column in columns if item[fold(column)] not in (None, "")]
        return [item[fold(column)] for column in kept], kept
    value = item[fold(columns[0])]
    if isinstance(value, dict):
        texts, labels = (next((value[key] for key in keys if key in value), None) for keys in _TEXTS_AND_LABELS)
        if isinstance(texts, list) and isinstance(labels, list) and len(texts) == len(labels):
            return texts, labels
        return list(value.values()), list(value)
    if not isinstance(value, list):
        raise ValueError(f"{place}: {columns[0]} is {kind_of(value)}; write a list of 2 to {MOST_CHOICES} strings")
    return value, []


_TEXTS_AND_LABELS = ("text", "choices"), ("label", "labels")
"""How ARC and TruthfulQA name the two lists that they put in the place of one."""


def _answer(place: str, value: Any, choices: Sequence[str], names: Sequence[Any]) -> int:
    """Index of the right choice, from an index, a letter, the file's own name for it, or its words."""
    count, found = len(choices), set[int]()
    if type(value) is int:
        found = {value} & set(range(count))
    elif isinstance(value, str):
        said = value.strip()
        found = {number for number, choice in enumerate(choices) if choice == said}
        if said in names:
            found |= {list(names).index(said)}
        elif len(said) == 1 and said.isascii() and said.isalpha():
            found |= {ord(said.upper()) - ord("A")} & set(range(count))
        elif said.isdecimal():
            found |= {int(said)} & set(range(count))
    if len(found) != 1:
        last = chr(ord("A") + count - 1)
        shown = json.dumps(value)[:40] if isinstance(value, str | int | float) else kind_of(value)
        what = f"is none of its {count} choices" if not found else "can mean several of its choices"
        raise ValueError(f"{place}: answer {shown} {what}; write 0 to {count - 1}, or A to {last}")
    return found.pop()
