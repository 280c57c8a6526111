"""Multiple-choice questions: can a model still tell the right answer from wrong ones when it no longer says it?

    found = read_choices(Path("wmdp-bio.json"))      # WMDP and MMLU: question, choices, answer
    asked = choice_prompts(tokenizer, found.questions, settings)
    choice_records(found.questions, logprobs_base, logprobs_unlearned)

No letters are shown to the model: each choice's own text is scored as the answer to the bare question, by log p of its
tokens. A sum favours short texts, so that a pick goes by the mean a token.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.probes.checks import PairError
from ckdiff.probes.prompts import Prompt, prompts
from ckdiff.probes.questions import Question, QuestionsError, kind_of, read_file, string_of
from ckdiff.probes.sweep import SIDES
from ckdiff.probes.texts import digest_of, records
from ckdiff.report.schema import ChoiceRecord
from ckdiff.weights.headers import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from ckdiff.probes.settings import Settings
    from ckdiff.shapes import Float64

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


def choice_prompts(tokenizer: Any, questions: Sequence[Choices], settings: Settings) -> list[Prompt]:
    """Every choice of every question as a prompt with the choice's ids as its answer, in order.

    After a template the choice follows a blank, and its ids are what it adds to the prompt's when both are cut into
    tokens together; where the prompt's last token would change by that, and after a chat template, it is cut alone.

    Raises:
        PromptError: the template cannot be used.
        PairError: a choice has no token.
    """
    asked = prompts(tokenizer, [Question(one.text) for one in questions], settings.template, settings.chat)
    found = []
    for one, prompt in zip(questions, asked, strict=True):
        for choice in one.choices:
            ids = _alone(tokenizer, choice) if settings.chat else _after(tokenizer, one, choice, prompt, settings)
            if not ids:
                raise PairError(f"choice {choice[:60]!r}: no token comes out of it; leave its question out")
            found.append(Prompt(prompt.question, prompt.ids, ids))
    return found


def choice_records(
    questions: Sequence[Choices], base: Sequence[Tensor], unlearned: Sequence[Tensor]
) -> tuple[tuple[ChoiceRecord, ...], dict[str, Float64]]:
    """One record a question, and by name of `ChoiceSet`'s means what each question adds to them [question].

    Args:
        questions: as they were asked.
        base: log p of each token of every choice of every question, in the order of `choice_prompts`.
        unlearned: the same of the unlearned model.
    """
    rows, first = [], 0
    shares: dict[str, list[float]] = {f"{what}_{side}": [] for what in ("accuracy", "probability") for side in SIDES}
    for one in questions:
        part = slice(first, first + len(one.choices))
        first = part.stop
        sums, picks = {}, {}
        for side, logprobs in zip(SIDES, (base[part], unlearned[part]), strict=True):
            means = np.array([float(tokens.mean()) for tokens in logprobs])
            weights = np.exp(means - means.max())
            sums[side] = tuple(float(tokens.sum()) for tokens in logprobs)
            picks[side] = int(means.argmax())
            shares[f"accuracy_{side}"].append(float(picks[side] == one.answer))
            shares[f"probability_{side}"].append(float(weights[one.answer] / weights.sum()))
        rows.append(
            ChoiceRecord(
                text=one.text,
                choices=one.choices,
                answer=one.answer,
                logprob_base=sums["base"],
                logprob_unlearned=sums["unlearned"],
                picked_base=picks["base"],
                picked_unlearned=picks["unlearned"],
            )
        )
    return tuple(rows), {name: np.array(values) for name, values in shares.items()}


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


def _alone(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"])


def _after(tokenizer: Any, one: Choices, choice: str, prompt: Prompt, settings: Settings) -> tuple[int, ...]:
    whole = tokenizer(f"{settings.template.replace('{q}', one.text)} {choice}")["input_ids"]
    size = len(prompt.ids)
    if tuple(whole[:size]) == prompt.ids and len(whole) > size:
        return tuple(int(token) for token in whole[size:])
    return _alone(tokenizer, f" {choice}")
