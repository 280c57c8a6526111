"""Questions: what both models are asked, read from the files in which unlearning benchmarks keep them.

    read_questions(Path("forget10.jsonl"))                         # TOFU: one object a line
    read_questions(Path("concepts.json"), concept="Super Mario")   # ConceptVectors: one entry of many

`formats.FORMATS` says which files can be read, `layouts.LAYOUTS` which of their columns are meant. What is left out is
counted in `notes`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING, Any

from ckdiff.questions.formats import Record
from ckdiff.questions.layouts import CLUSTER, KIND, SPAN, fold, question_layout
from ckdiff.questions.records import Records, items_of, name_in_errors, read_records
from ckdiff.questions.streams import RecordsError
from ckdiff.questions.values import (
    canonical_digest,
    check_open,
    clean,
    count_note,
    kind_of,
    list_names,
    string_of,
    words_of,
)
from ckdiff.untrusted import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


MAX_BYTES = 100_000_000
"""More than any set of questions that somebody would wait for."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question, stripped, and what its file says of it.

    Attributes:
        text: the question.
        answer: its answer, or None.
        others: more answers that are right as well.
        paraphrases: the question in other words.
        cluster: the fact that it asks about, where several questions ask about one.
        span: the characters of the answer that only who knows it can say: from, and up to.
        reworded: the answer in other words, or None.
        wrong: false answers that look like it.
        kind: of what it asks for, such as a town: answers of one kind could stand in each other's place. Or None.
    """

    text: str
    answer: str | None = None
    others: tuple[str, ...] = ()
    paraphrases: tuple[str, ...] = ()
    cluster: str | None = None
    span: tuple[int, int] | None = None
    reworded: str | None = None
    wrong: tuple[str, ...] = ()
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Questions in order, each text once.

    Attributes:
        source: one line for people: file name, format, concept.
        digest: sha256 over the canonical JSON of texts and answers; equal sets have equal digests whatever their file.
        notes: plain sentences about what was left out.
        whole: the digest of the set that this one is what is left of; "" where nothing was left out.
    """

    questions: tuple[Question, ...]
    source: str
    digest: str
    notes: tuple[str, ...] = ()
    whole: str = ""

    @property
    def given(self) -> str:
        """The digest of everything that was given to be asked."""
        return self.whole or self.digest

    def asks_nothing_beside(self, other: QuestionSet) -> bool:
        """Whether every question of this set is one of another set, too."""
        return {fold(one.text) for one in self.questions} <= {fold(one.text) for one in other.questions}

    def narrow(self, kept: tuple[Question, ...]) -> QuestionSet:
        """The same set with these questions alone."""
        return replace(self, questions=kept, digest=digest_of(kept), whole=self.given)


def read_questions(path: Path, *, concept: str | None = None, unrelated: bool = False) -> QuestionSet:
    """Read the questions of a file.

    Args:
        path: the file.
        concept: picks the entries of one concept, subject or part of the file; case does not matter.
        unrelated: take a concept's unrelated questions instead of those about it.

    Raises:
        RecordsError: the file cannot be read, is of no known format, or does not hold what was asked for.
    """
    with name_in_errors(path):
        return _collect(*_choose_entries(read_records(path, most=MAX_BYTES), concept, unrelated))


def concepts_in(path: Path) -> tuple[str, ...]:
    """The concepts, or subjects, that `read_questions` can pick from a file, in its order; none of other files.

    Raises:
        RecordsError: the file cannot be read.
    """
    with name_in_errors(path):
        found = read_records(path, most=MAX_BYTES)
        once: dict[str, str] = {}
        for name in filter(None, map(found.concept_of, found.entries)):
            once.setdefault(fold(name), clean(name, "a concept's name"))
        return tuple(once.values())


def general_questions() -> QuestionSet:
    """Questions about nothing in particular, bundled with ckdiff: what else did unlearning break?"""
    text = resources.files("ckdiff.questions").joinpath("general_questions.txt").read_text(encoding="utf-8")
    return given_questions(text.splitlines(), "general questions of ckdiff")


def given_questions(texts: Sequence[str] | str, source: str = "command line") -> QuestionSet:
    """Questions as they were typed on the command line; a single text is one question.

    Raises:
        RecordsError: none of them says anything, or one is not text.
    """
    texts = [texts] if isinstance(texts, str) else texts
    try:
        return _collect([Record(f"question {index}", text) for index, text in enumerate(texts, 1)], source)
    except ValueError as error:
        raise RecordsError(f"--question: {error}") from error


def _choose_entries(found: Records, concept: str | None, unrelated: bool) -> tuple[list[Record], str, tuple[str, ...]]:
    """The entries that are asked for, one line about what they are, and notes."""
    row = found.group
    if unrelated and not (row and row.unrelated):
        raise ValueError(f"{found.kind} has no unrelated questions of its own; name a file that holds them")
    picked = list(found.about(concept))
    name = found.concept_of(picked[0])
    if row is None or not row.target:
        said = [found.name, f"{found.kind} with subjects" if row else found.kind]
        return picked, ", ".join(said if concept is None else [*said, f"concept {quoted(name or '')}"]), ()
    items = [item for entry in picked for item in items_of(entry, row.unrelated if unrelated else row.target)]
    one = len({fold(found.concept_of(entry) or "") for entry in picked}) == 1
    said = [
        found.name,
        row.name,
        f"concept {quoted(name or '')}" if one else "",
        "unrelated questions" if unrelated else "",
    ]
    notes = (f"{len(picked)} entries of one concept were joined",) if one and len(picked) > 1 else ()
    return items, ", ".join(filter(None, said)), notes


def _collect(items: Iterable[Record], source: str, notes: tuple[str, ...] = ()) -> QuestionSet:
    """Strip, drop what is empty or was asked already, and count what was dropped."""
    items = list(items)
    rows = filter(None, (question_layout(item.value) for item in items if isinstance(item.value, dict)))
    notes += tuple(dict.fromkeys(row.note for row in rows if row.note))
    asked: dict[str, Question] = {}
    empty = repeated = contradicted = unplaced = 0
    for item in items:
        question = _question(item.place, item.value)
        first = asked.setdefault(question.text, question)
        empty += not question.text
        repeated += bool(question.text) and first is not question
        contradicted += bool(question.text) and first.answer != question.answer
        unplaced += question.span is None and isinstance(item.value, dict) and any(map(item.value.get, SPAN))
    questions = tuple(question for text, question in asked.items() if text)
    if not questions:
        raise ValueError("no question found; write at least one")
    notes += count_note(empty, "empty question") + count_note(repeated, "repeated question")
    notes += count_note(contradicted, "repeated question", "with another answer; the first answer was kept")
    notes += count_note(
        sum(bool(one.others) for one in questions), "question", "with several answers; the first is used"
    )
    notes += count_note(unplaced, "question", "whose span or entity is no part of the answer: depth scores all of it")
    return QuestionSet(questions, source, digest_of(questions), notes)


def digest_of(questions: tuple[Question, ...]) -> str:
    """The sha256 of the canonical JSON of texts and answers."""
    return canonical_digest([[question.text, question.answer] for question in questions])


def _question(place: str, item: Any) -> Question:
    if isinstance(item, str):
        return Question(clean(item, place))
    if not isinstance(item, dict):
        raise ValueError(f"{place}: {kind_of(item)}; write a string, or an object with a question")
    row = question_layout(item)
    if row is None:
        raise ValueError(f"{place}: no question in it; call it question; it has: {list_names(item)}")
    first, *more = row.question
    said = [string_of(place, first, item[fold(first)])]
    said += [string_of(place, column, item[fold(column)]) for column in more if item.get(fold(column)) is not None]
    answers = _answers(place, row.answer, item.get(fold(row.answer)))
    check_open(place, item, answers)
    return Question(
        "\n".join(filter(None, said)),
        answers[0] if answers else None,
        answers[1:],
        _answers(place, row.paraphrase, item.get(fold(row.paraphrase))),
        next(filter(None, (str(item.get(name) or "").strip() for name in CLUSTER)), None),
        next(filter(None, (_span(item.get(name), answers[:1]) for name in SPAN)), None),
        next(iter(_answers(place, row.reworded, item.get(fold(row.reworded)))), None),
        _answers(place, row.wrong, item.get(fold(row.wrong))),
        str(item.get(KIND) or "").strip() or None,
    )


def _answers(place: str, column: str, value: Any) -> tuple[str, ...]:
    """The answers in a column that holds a string, a number, or several of them; each once."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ()
    every = value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(filter(None, (words_of(place, column, one) for one in every))))


def _span(value: Any, answers: Sequence[str]) -> tuple[int, int] | None:
    """Where in the answer a part of it stands, given by its words or its place; None where it does not fit."""
    for answer in answers:
        if isinstance(value, str) and value.strip() and value.strip() in answer:
            start = answer.index(value.strip())
            return start, start + len(value.strip())
        if isinstance(value, list) and len(value) == 2 and all(type(place) is int for place in value):
            return (value[0], value[1]) if 0 <= value[0] < value[1] <= len(answer) else None
    return None
