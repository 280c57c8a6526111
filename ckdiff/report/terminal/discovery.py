"""Discovery on a terminal: one line, the most lost words, the candidates, and both answers about what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from ckdiff.report.terminal.parts import bullets, dim, facts, mixed_table, pair_facts, warnings, with_title
from ckdiff.report.words import discovery as words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from ckdiff.report.schema.discovery import DiscoveryReport
    from ckdiff.report.schema.report import Report
    from ckdiff.report.words.sections import Selection

SHOWN = 6
"""Answers that are listed unasked."""
WHERE = 40
"""Characters of the text behind which a word was lost."""


def parts(report: Report, selection: Selection) -> Iterator[RenderableType]:
    """Everything a reader of `ckdiff discover` needs."""
    found = report.discovery
    yield facts([*pair_facts(report), *(words.facts_of(found) if found is not None else ())])
    yield from warnings(report, "" if found is not None else words.NO_DISCOVERY)
    if found is None:
        return
    yield Text(words.headline(found), style="bold")
    for title, heads, cells, texts in _tables(found, selection):
        if cells:
            yield with_title(title, mixed_table(heads, cells, texts))
    yield dim(" ".join(words.LEGEND))
    if notes := words.every_note(found):
        yield with_title("Notes", bullets(notes))


def _tables(
    found: DiscoveryReport, selection: Selection
) -> Iterator[tuple[str, Sequence[str], list[tuple[str, ...]], tuple[int, ...]]]:
    """Title, headings and rows of each table, and which of its columns are words."""
    top, cells = selection.top, words.word_cells
    yield "Lost words", words.WORD_HEADS, _short(found.words[:top], cells), (0, 3, 4)
    yield words.GROUP_TITLE, words.GROUP_HEADS, _short(words.group_rows(found)[:top], tuple), (0, 4, 5)
    yield "Gained words", words.GAINED_HEADS, _short(found.gained[: top // 2], cells), (0, 3, 4)
    yield words.WEIGHT_TITLE, words.WEIGHT_HEADS, [*map(words.weight_cells, found.weights[:top])], (0, 2)
    every = words.with_scores(found)
    asked = f"{sum(one.asked for one in every)} of {found.counted} asked about in every form"
    title = f"{words.candidates_title(found)}, {asked}"
    yield title, words.CANDIDATE_HEADS, [words.candidate_cells(one) for one in every[:top]], (0,)
    answers = words.told_answers(found)[: selection.questions or SHOWN]
    yield "What both say about it", words.ANSWER_HEADS, [words.answer_cells(one) for one in answers], (0, 1, 2, 3)
    yield words.LAYER_TITLE, words.LAYER_HEADS, words.layer_rows(found, top // 2), ()
    yield words.NEURON_TITLE, words.NEURON_HEADS, [*map(words.neuron_cells, found.neurons[:top])], (4,)
    yield "Texts", words.KIND_HEADS, [words.kind_cells(one) for one in found.kinds], (0,)


def _short(rows: Sequence[object], cells: Callable[..., tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Rows whose last cell, a text, is cut to its end."""
    found = [cells(one) for one in rows]
    return [(*row[:-1], row[-1] if len(row[-1]) <= WHERE else f"…{row[-1][1 - WHERE :]}") for row in found]
