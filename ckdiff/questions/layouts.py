"""Published data sets, a row each: which of their columns is the question, the answer, what is chosen from.

A new data set is one row, and nothing else. The case of column names does not matter, nor does the file's format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of one published data set.

    Attributes:
        name: how people call it.
        published: where it is: a repository of the hub or of GitHub, or who writes such files.
        question: where the question stands; more columns are added to it where they say something.
        answer: where its answer stands.
        choices: a column with the list of choices, or a column a choice.
        paraphrase: where the question stands in other words.
        reworded: where the answer stands in other words.
        wrong: where false answers stand that look like it.
        text: where a text to learn or forget stands.
        concept: whom or what an entry is about; `--concept` picks by it.
        target, unrelated: where the entry of a concept lists the questions about it, and those beside it.
        note: what whoever asks them should know.
    """

    name: str
    published: str
    question: tuple[str, ...] = ()
    answer: str = ""
    choices: tuple[str, ...] = ()
    paraphrase: str = ""
    reworded: str = ""
    wrong: str = ""
    text: str = ""
    concept: str = ""
    target: str = ""
    unrelated: str = ""
    note: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """All of its columns."""
        single = self.answer, self.paraphrase, self.text, self.concept, self.target, self.unrelated
        return tuple(filter(None, (*self.question, *single, self.reworded, self.wrong, *self.choices)))


QUESTION = ("question",)
"""Where most keep it."""


BEGINNINGS = "these are beginnings of texts, no questions; --prompt-template '{q}' asks them as they are"


LAYOUTS = (
    Layout("KnowUnDo", "zjunlp/KnowUnDo", ("text",), "labels"),
    Layout("RWKU, passages", "jinzhuoran/RWKU", text="text", concept="subject"),
    Layout("texts", "muse-bench/MUSE-News, cais/wmdp-corpora, RedPajama, Dolma", text="text"),
    Layout(
        "ConceptVectors",
        "yihuaihong/ConceptVectors",
        text="wikipedia_content",
        concept="Concept",
        target="QA",
        unrelated="unrelated_QA",
    ),
    Layout(
        "concept with questions",
        "ckdiff",
        concept="concept",
        target="target_questions",
        unrelated="unrelated_questions",
    ),
    Layout("RETURN", "zhliu/RETURN", QUESTION, "gold_answer", concept="name", target="data"),
    Layout(
        "TOFU",
        "locuslab/TOFU",
        QUESTION,
        "answer",
        paraphrase="paraphrased_question",
        reworded="paraphrased_answer",
        wrong="perturbed_answer",
    ),
    Layout(
        "TOFU, authors and facts",
        "locuslab/TOFU",
        QUESTION,
        "answer",
        choices=("option1", "option2", "option3", "option4"),
    ),
    Layout("MUSE, knowmem", "muse-bench/MUSE-News", QUESTION, "answer"),
    Layout("MUSE, verbmem", "muse-bench/MUSE-News", ("prompt",), "gt", note=BEGINNINGS),
    Layout("RWKU", "jinzhuoran/RWKU", ("query",), "answer", concept="subject"),
    Layout("WMDP", "cais/wmdp", QUESTION, "answer", choices=("choices",)),
    Layout("MMLU", "cais/mmlu", QUESTION, "answer", choices=("choices",), concept="subject"),
    Layout("MMLU, CSV", "hendrycks/test", QUESTION, "answer", choices=("A", "B", "C", "D")),
    Layout("ARC", "allenai/ai2_arc", QUESTION, "answerKey", choices=("choices",)),
    Layout("TruthfulQA", "sylinrl/TruthfulQA", QUESTION, "Best Answer"),
    Layout("TruthfulQA, generation", "truthfulqa/truthful_qa", QUESTION, "best_answer"),
    Layout("TruthfulQA, choices", "truthfulqa/truthful_qa", QUESTION, choices=("mc1_targets",)),
    Layout("instructions", "Stanford Alpaca, jinzhuoran/RWKU", ("instruction", "input"), "output"),
    Layout("LUME", "SemEval 2025, task 4", ("input",), "output"),
    Layout("completions", "files for fine-tuning", ("prompt",), "completion"),
    Layout("responses", "files for fine-tuning", ("prompt",), "response"),
    Layout("chats", "files for fine-tuning", ("messages",)),
)


CLUSTER, SPAN = ("cluster", "fact"), ("span", "entity")
"""Columns of any data set: questions about one fact, and the part of the answer that only who knows it can say."""
KIND = "kind"
"""A column of any data set: questions of one kind want answers that could stand in each other's place."""


ALTERNATE = ("alternate", "perturbed_answer")
"""Columns of any data set with other answers of the same kind: one, or a list."""


ASKING = ("question", "query")
"""Columns that hold a question even where no answer stands beside it."""


def fold(name: str) -> str:
    """A name as it is compared with others."""
    return name.strip().casefold()


def known_columns() -> frozenset[str]:
    """Every column that is read, folded; of a table with many columns no other is."""
    return frozenset(fold(column) for row in LAYOUTS for column in (*row.columns, *CLUSTER, *SPAN, KIND, *ALTERNATE))


def has(record: Mapping[str, Any], *columns: str) -> bool:
    """Whether a record, its keys folded, has all of some columns; a column without a name is in none."""
    return all(column and fold(column) in record for column in columns)


def question_layout(record: Mapping[str, Any]) -> Layout | None:
    """The row by which a record is a question: one whose answer is there, else one whose column says that it asks."""
    rows = [row for row in LAYOUTS if row.question and has(record, row.question[0])]
    answered = next((row for row in rows if has(record, row.answer)), None)
    return answered or next((row for row in rows if row.question[0] in ASKING), None)


def choice_layout(record: Mapping[str, Any]) -> Layout | None:
    """The row by which a record is a multiple-choice question."""
    rows = [row for row in LAYOUTS if row.choices and has(record, *row.choices)]
    return next((row for row in rows if has(record, row.answer)), rows[0] if rows else None)


def text_layout(record: Mapping[str, Any]) -> Layout | None:
    """The row by which a record can be learned or forgotten: as a text, or as a question with its answer."""
    return next((row for row in LAYOUTS if has(record, row.text) or has(record, *row.question[:1], row.answer)), None)


def concept_layout(records: Iterable[Any]) -> Layout | None:
    """The row by which entries belong to concepts; those that list their questions come before mere subjects."""
    objects = [record for record in records if isinstance(record, dict)]
    rows = sorted((row for row in LAYOUTS if row.concept), key=lambda row: not row.target)
    return next((row for row in rows if any(_groups(row, record) for record in objects)), None)


def _groups(row: Layout, record: Mapping[str, Any]) -> bool:
    if row.unrelated:
        return has(record, row.target) or has(record, row.unrelated) or has(record, row.concept, row.text)
    return has(record, row.concept) and (not row.target or has(record, row.target))
