"""Behaviour on a terminal.

First what was asked and how the two models did; then their answers side by side, those that changed most first, with
every word that is gone or new marked; then what the maker of the checkpoint measured while it was unlearning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from ckdiff.report.terminal.parts import (
    add_rows,
    bare,
    bullets,
    dim,
    facts,
    number_columns,
    pair_facts,
    plain_table,
    warnings,
    with_title,
    words_column,
)
from ckdiff.report.words import behaviour as words
from ckdiff.report.words import members
from ckdiff.report.words.intervals import means_text, texts_text
from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from ckdiff.report.schema.behaviour import AnswerSet, Behaviour, HistoryPoint
    from ckdiff.report.schema.report import Report
    from ckdiff.report.words.behaviour import Piece
    from ckdiff.report.words.sections import Selection

CHANGED = {"same": "", "gone": "red", "new": "green"}
"""The colour of words that are gone from the base's answer, and of those that are new in the unlearned model's."""

ANSWER_HEADS = ("set", "questions", "BLEU", "exact", "log p\nbase → unlearned", "ppl\nbase → unlearned")

ANSWER_LEGEND = (
    "BLEU: of the unlearned answers against the base's, 1: word for word the same;",
    "exact: share of answers that are the very same tokens; log p (nats a token) and",
    "ppl: of the base's answers. In brackets:",
)

CHOICE_HEADS = (
    "set",
    "questions",
    "right\nbase",
    "right\nunlearned",
    "chance",
    "p(right)\nbase",
    "p(right)\nunlearned",
)

CHOICE_LEGEND = (
    "right: share of right picks; chance: the same by guessing; p(right): the right",
    "choice's share of the probability. In brackets:",
)

NEUTRAL_HEADS = ("texts", "tokens", "KL(base ‖ unlearned), nats a token", "perplexity\nbase → unlearned")

HISTORY_HEADS = ("epoch", "loss", "target BLEU", "unrelated BLEU")

HISTORY_LEGEND = "memory: the weights as trained; saved: as a checkpoint on disk holds them, rounded"


def parts(report: Report, selection: Selection) -> Iterator[RenderableType]:
    """Everything a reader of `ckdiff behave` needs."""
    found = report.behaviour
    yield facts([*pair_facts(report), *(_facts_of(found) if found is not None else ())])
    yield from warnings(report, "" if words.asks_anything(found) else words.NOTHING_ASKED)
    if found is not None:
        yield from _numbers(found)
        yield from _texts(found, selection.questions)
        yield from _field(found)
        yield from _members(found)


def _facts_of(found: Behaviour) -> Iterator[tuple[str, str]]:
    yield "model type", found.model_type or "not stated"
    if found.method:
        yield "method", f"{found.method}, as the unlearned checkpoint says"
    yield "settings", words.behaviour_settings(found) or "not stated"
    yield from ((printable(name), shorten(line, 160)) for name, line in words.source_lines(found))


def _numbers(found: Behaviour) -> Iterator[RenderableType]:
    if found.answers:
        rows = [_on_two_lines(*words.answer_cells(one)) for one in found.answers]
        chrf = words.chrf_line(found.answers)
        lines = [_table(ANSWER_HEADS, rows), *([] if chrf is None else [Text(chrf)])]
        yield with_title("Answers", *lines, dim(*ANSWER_LEGEND, f"{means_text(found.settings)}."))
    if (choices := found.choices) is not None:
        row = _on_two_lines(choices.name or "choices", *words.choice_cells(choices))
        yield with_title(
            "Multiple choice", _table(CHOICE_HEADS, [row]), dim(*CHOICE_LEGEND, f"{means_text(found.settings)}.")
        )
    if found.neutral is not None:
        table = _table(NEUTRAL_HEADS, [words.neutral_cells(found.neutral)])
        yield with_title("Neutral text", table, dim(f"In brackets: {texts_text(found.settings)}."))


def _field(found: Behaviour) -> Iterator[RenderableType]:
    if rows := list(words.field_rows(found.answers)):
        note = words.field_note(found.answers)
        yield with_title("As benchmarks report it", _table(words.field_heads(found.answers), rows, left=2), dim(note))
    if lines := list(members.reference_lines(found)):
        yield with_title("Beside a model that never knew", bullets(lines))


def _members(found: Behaviour) -> Iterator[RenderableType]:
    if rows := list(members.member_rows(found)):
        yield with_title(members.TITLE, _table(members.HEADS, rows), dim(members.member_note(found), *members.LEGEND))


def _on_two_lines(name: str, *figures: str) -> list[str | Text]:
    """A row with the intervals of its shares under them."""
    return [name, *(Text(figure.replace(" [", "\n[")) for figure in figures)]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str | Text]], left: int = 1) -> RenderableType:
    """Narrower than `plain_table`: all of it fits into 80 columns; the first `left` columns are words."""
    table = bare(1)
    for head in heads[:left]:
        words_column(table, head)
    number_columns(table, heads[left:])
    return add_rows(table, rows)


def _texts(found: Behaviour, limit: int) -> Iterator[RenderableType]:
    for answers in found.answers:
        if limit > 0 and answers.questions:
            yield with_title(f"What they say, {printable(answers.name)}: most changed first", *_answers(answers, limit))
    if found.history:
        yield with_title("While it was unlearned", *_history(found.history))
    if remark := words.saved_remark(found.history):
        yield with_title("Read with care", bullets([remark]))
    if found.notes:
        yield with_title("Notes", bullets(found.notes))


def _answers(answers: AnswerSet, limit: int) -> Iterator[RenderableType]:
    """Those that changed most first, an empty line between them."""
    for place, question in enumerate(words.rank_by_change(answers, limit)):
        asked = Text(shorten(printable(question.text), 400), style="bold")
        yield from [Text()] if place else []
        yield asked.append(f"\n{words.answer_facts(question)}", style="not bold dim")
        yield _Pair(words.changes(question.answer_base, question.answer_unlearned))
    if (left := len(answers.questions) - limit) > 0:
        yield dim(f"… and {left:,} more, which changed less")


class _Pair:
    """Two answers side by side; what changed is marked in colour, or with marks where the console has none."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = pieces

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        colour = console.color_system is not None and not console.no_color
        table = bare()
        table.expand = True
        for name in ("base", "unlearned"):
            words_column(table, name, ratio=1)
        sides = (side(self.pieces) for side in (words.of_base, words.of_unlearned))
        yield add_rows(table, [[_answer(pieces, colour) for pieces in sides]])


def _answer(pieces: Sequence[Piece], colour: bool) -> Text:
    if not pieces:
        return dim("(no words)")
    said = ((piece.words, CHANGED[piece.kind]) if colour else (words.mark_piece(piece), "") for piece in pieces)
    return Text(" ").join(Text(text, style=style) for text, style in said)


def _history(history: Sequence[HistoryPoint]) -> Iterator[RenderableType]:
    table = plain_table("step", HISTORY_HEADS)
    table.add_column(Text("weights"), no_wrap=True, vertical="bottom")
    shown = words.shown_points(history)
    for point in shown:
        *cells, state = words.history_cells(point)
        add_rows(table, [[*cells, Text(printable(state), style="bold" if state == "saved" else "")]])
    yield table
    yield dim(HISTORY_LEGEND)
    if len(shown) < len(history):
        yield dim(f"{len(shown)} of {len(history):,} points; the report holds all of them")
