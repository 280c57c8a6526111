"""Multiple-choice questions, read from JSON or JSONL."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ckdiff.questions.neutral_texts import digest_of, records
from ckdiff.questions.questions import QuestionsError, kind_of, read_file, string_of
from ckdiff.untrusted import quoted

if TYPE_CHECKING:
    from pathlib import Path


KEYS = ("question", "choices", "answer")


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
        object.__setattr__(self, "digest", digest_of(content))


def read_choices(path: Path) -> ChoiceQuestions:
    """Read multiple-choice questions: a JSON list or JSON lines of objects as WMDP and MMLU have them.

    `question` is a string, `choices` a list of two to 26 strings, `answer` the index of the right one (from 0) or its
    letter (from A). Other keys are ignored.

    Raises:
        QuestionsError: the file cannot be read, or an entry is not of this form.
    """
    text = read_file(path)
    try:
        questions = tuple(_choices(place, value) for place, value in records(text))
    except ValueError as error:
        raise QuestionsError(f"{path}: {error}") from error
    name = path.stem if path.stem.isprintable() else quoted(path.stem)
    return ChoiceQuestions(name, questions, f"{name}{path.suffix}, {len(questions)} multiple-choice questions")


def _choices(place: str, value: Any) -> Choices:
    if not isinstance(value, dict):
        raise ValueError(f"{place}: {kind_of(value)}; write an object with question, choices and answer")
    missing = [key for key in KEYS if key not in value]
    if missing:
        raise ValueError(f"{place}: no {' and no '.join(missing)}; write question, choices and answer")
    text = string_of(place, "question", value["question"])
    if not text:
        raise ValueError(f"{place}: the question is empty; write one")
    given = value["choices"]
    if not isinstance(given, list) or not 2 <= len(given) <= MOST_CHOICES:
        what = f"{len(given)} choices" if isinstance(given, list) else f"choices is {kind_of(given)}"
        raise ValueError(f"{place}: {what}; write a list of 2 to {MOST_CHOICES} strings")
    choices = tuple(string_of(place, f"choice {number}", choice) for number, choice in enumerate(given))
    if not all(choices):
        raise ValueError(f"{place}: choice {choices.index('')} is empty; write its text")
    return Choices(text, choices, _answer(place, value["answer"], len(choices)))


def _answer(place: str, value: Any, count: int) -> int:
    """Index of the right choice, from an index or a letter."""
    index = value
    if isinstance(value, str):
        letter = value.strip().upper()
        index = ord(letter) - ord("A") if len(letter) == 1 else -1
    if type(index) is not int or not 0 <= index < count:
        last = chr(ord("A") + count - 1)
        shown = json.dumps(value)[:40] if isinstance(value, str | int | float) else kind_of(value)
        raise ValueError(
            f"{place}: answer {shown} is none of its {count} choices; write 0 to {count - 1}, or A to {last}"
        )
    return int(index)
