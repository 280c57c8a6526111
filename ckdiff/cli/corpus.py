"""`ckdiff corpus`: the texts of a pretraining corpus that speak of a concept, as a file for `ckdiff unlearn`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ckdiff.cli.console import bars, output, remark, write_json
from ckdiff.cli.options import OVERWRITE, QUIET, TABLE, TABLE_OR_JSON
from ckdiff.options import CONCEPT, LENGTH, MOST_TEXTS, OUTPUT, QUESTIONS, Argument, Option

if TYPE_CHECKING:
    from rich.console import RenderableType


ROWS = (
    ("segments", "segments taken"),
    ("words_mean", "words a segment"),
    ("characters_mean", "characters a segment"),
    ("words", "words in all"),
    ("documents", "documents read"),
    ("documents_with_concept", "documents that name it"),
    ("duplicates", "duplicates dropped"),
    ("files_read", "files read"),
    ("malformed", "malformed lines"),
    ("oversized", "oversized lines"),
    ("target_questions", "target questions"),
    ("target_question_words_mean", "words a target question"),
    ("unrelated_questions", "unrelated questions"),
    ("unrelated_question_words_mean", "words an unrelated question"),
)
"""The statistics that the table shows, where they are there."""


def corpus(
    paths: Annotated[list[Path], Argument("Files or directories of JSON lines: RedPajama, Dolma.")],
    concept: Annotated[str, CONCEPT.but("The name of the concept.", "")],
    target: Annotated[Path, OUTPUT.but("The .jsonl file to write.")],
    alias: Annotated[tuple[str, ...], Option("--alias", "Another name; may be repeated.", repeated=True)] = (),
    most: Annotated[int, MOST_TEXTS.but("Stop at so many segments.")] = 6000,
    length: Annotated[int, LENGTH.but("Characters after which a segment ends.", least=1)] = 400,
    questions: Annotated[Path | None, QUESTIONS.but("Count the concept's questions of this file too.", "")] = None,
    output_format: Annotated[str, TABLE_OR_JSON] = TABLE,
    overwrite: Annotated[bool, OVERWRITE.but("Replace the file at --output.")] = False,
    quiet: Annotated[bool, QUIET] = False,
) -> None:
    """Pick from a pretraining corpus the texts that speak of a concept, to unlearn it."""
    from ckdiff.questions.corpus import check_output, extract, write_extraction

    check_output(target, overwrite, paths)
    asked = {} if questions is None else question_statistics(questions, concept)
    with bars(quiet) as show:
        texts = extract(paths, concept, alias, most, length, lambda done, total: show("reading", done, total, ""))
    write_extraction(texts, target, overwrite)
    statistics = {**texts.statistics(), **asked, "output": str(target)}
    if output_format == "json":
        write_json(statistics)
    else:
        output(statistics_view(statistics))
    for line in warnings(statistics):
        remark(line, quiet)
    remark(f"texts: {target}", quiet)


def question_statistics(path: Path, concept: str) -> dict[str, Any]:
    """How many questions a file asks about a concept and beside it, and how long they are."""
    from ckdiff.questions.questions import read_questions
    from ckdiff.questions.streams import RecordsError

    found = {"target": read_questions(path, concept=concept).questions}
    try:
        found["unrelated"] = read_questions(path, concept=concept, unrelated=True).questions
    except RecordsError:
        found["unrelated"] = ()  # a file of target questions alone
    statistics: dict[str, Any] = {}
    for name, asked in found.items():
        statistics[f"{name}_questions"] = len(asked)
        words = sum(len(question.text.split()) for question in asked)
        statistics[f"{name}_question_words_mean"] = words / len(asked) if asked else None
    return statistics


def statistics_view(statistics: dict[str, Any]) -> RenderableType:
    """The statistics as a table, one number a line."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    names = ", ".join(json.dumps(name, ensure_ascii=False) for name in (statistics["concept"], *statistics["aliases"]))
    table.title, table.title_style, table.title_justify = Text(names), "bold", "left"
    for key, label in ROWS:
        if statistics.get(key) is not None:
            table.add_row(label, _number(statistics[key]))
    return table


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def warnings(statistics: dict[str, Any]) -> list[str]:
    """Lines that a reader of the numbers should know."""
    lines = [f"malformed: {place}" for place in statistics["malformed_first"]]
    lines += [f"skipped: {place}" for place in statistics["oversized_first"]]
    lines += [f"cut off or damaged, used up to there: {name}" for name in statistics["cut_short"]]
    if statistics["most_reached"]:
        read, there = statistics["files_read"], statistics["files"]
        lines.append(f"--most reached in file {read} of {there}; the rest was not read")
    return lines
