"""Discovery in Markdown: one line, lost words, candidates, and both answers about what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.markdown.parts import bullet_list, escape, table
from ckdiff.report.words import discovery as words
from ckdiff.untrusted import shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckdiff.report.schema.report import Report


def parts(report: Report) -> Iterator[str]:
    """Everything, a paragraph, list or table each."""
    yield "## ckdiff discover"
    found = report.discovery
    if found is None:
        yield f"**{words.NO_DISCOVERY}**"
        return
    yield f"**{escape(words.headline(found))}**"
    yield bullet_list(f"{name}: {shorten(text, 200)}" for name, text in words.facts_of(found))
    yield from _table("Lost words", words.WORD_HEADS, map(words.word_cells, found.words), 1)
    yield from _table(words.GROUP_TITLE, words.GROUP_HEADS, words.group_rows(found), 1)
    yield from _table("Gained words", words.GAINED_HEADS, map(words.word_cells, found.gained), 1)
    yield from _table(words.WEIGHT_TITLE, words.WEIGHT_HEADS, map(words.weight_cells, found.weights), 1)
    scored = words.with_scores(found)
    yield from _table(words.candidates_title(found), words.CANDIDATE_HEADS, map(words.candidate_cells, scored), 1)
    yield from _table(
        "What both say about it", words.ANSWER_HEADS, map(words.answer_cells, words.told_answers(found)), 3
    )
    yield from _table(words.LAYER_TITLE, words.LAYER_HEADS, words.layer_rows(found), 0)
    yield from _table(words.NEURON_TITLE, words.NEURON_HEADS, map(words.neuron_cells, found.neurons), 0)
    yield from _table("Texts", words.KIND_HEADS, map(words.kind_cells, found.kinds), 1)
    yield escape(" ".join(words.LEGEND))
    if notes := words.every_note(found):
        yield "### Notes"
        yield bullet_list(notes)


def _table(title: str, heads: Sequence[str], rows: Iterable[tuple[str, ...]], left: int) -> Iterator[str]:
    """A heading and a table, where there are rows."""
    cells = [[shorten(text, 200) for text in row] for row in rows]
    if cells:
        yield f"### {title}"
        yield table(heads, cells, left=left)
