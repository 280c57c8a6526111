"""The questions whose answers show how both models behave: `Asked`, and where its unrelated questions come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckdiff.questions.layouts import has
from ckdiff.questions.questions import MAX_BYTES, QuestionSet, digest_of, read_questions
from ckdiff.questions.records import name_in_errors, read_records
from ckdiff.questions.values import count_note

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ckdiff.questions.choices import ChoiceQuestions
    from ckdiff.questions.neutral_texts import Texts


@dataclass(frozen=True, slots=True)
class Asked:
    """The questions to both models.

    Attributes:
        target: questions about what was to be unlearned, or None where nobody gave any.
        unrelated: questions about anything else.
        choices: multiple-choice questions, or None.
        neutral: neutral texts, or None.
        holdout: questions with answers that nothing here was trained on, or None; they are read, and not asked.
    """

    target: QuestionSet | None
    unrelated: QuestionSet
    choices: ChoiceQuestions | None = None
    neutral: Texts | None = None
    holdout: QuestionSet | None = None

    @property
    def open(self) -> dict[str, QuestionSet]:
        """The sets of open questions by name, target first."""
        found = {} if self.target is None else {"target": self.target}
        return found | {"unrelated": self.unrelated}

    def narrow(self, kept: Sequence[int]) -> Asked:
        """The same with some of the open questions alone; `kept` has their numbers among all of them."""
        sets, first = {}, 0
        for name, one in self.open.items():
            last = first + len(one.questions)
            rest = tuple(one.questions[number - first] for number in kept if first <= number < last)
            whole = len(rest) == len(one.questions)
            sets[name] = one if whole else one.narrow(rest)
            first = last
        return replace(self, target=sets.get("target"), unrelated=sets["unrelated"])


def own_unrelated(path: Path, concept: str | None) -> QuestionSet | None:
    """The unrelated questions that a file of concepts has beside those about the concept; None of other files.

    Raises:
        RecordsError: it has them, and they cannot be used.
    """
    with name_in_errors(path):
        found = read_records(path, most=MAX_BYTES)
        column = found.group.unrelated if found.group else ""
        picked = [entry.value for entry in found.about(concept) if isinstance(entry.value, dict)] if column else []
    if not any(has(entry, column) for entry in picked):
        return None
    return read_questions(path, concept=concept, unrelated=True)


def first_questions(found: QuestionSet, most: int) -> QuestionSet:
    """The first so many questions of a set, with a note about how many were left out."""
    if len(found.questions) <= most:
        return found
    kept = found.questions[:most]
    notes = count_note(len(found.questions) - most, "unrelated question", "left out; --most-unrelated asks more")
    return replace(found, questions=kept, digest=digest_of(kept), notes=(*found.notes, *notes))
