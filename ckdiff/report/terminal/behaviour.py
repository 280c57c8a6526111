"""Behaviour on a terminal: `console.print(view(report))`.

First what was asked and how the two models did; then their answers side by side, those that changed most first, with
every word that is gone or new marked; then what the maker of the checkpoint measured while it was unlearning.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ckdiff.report.terminal.parts import bullets, facts, number_columns, pair_facts, plain_table, safe, titled
from ckdiff.report.words.behaviour import (
    NOTHING_ASKED,
    answer_facts,
    arrow,
    behaviour_settings,
    changes,
    interval_text,
    kl_text,
    marked,
    measured,
    most_changed,
    of_base,
    of_unlearned,
    perplexity_text,
    saved_remark,
    share_text,
    short_number,
    shown_points,
    source_lines,
)
from ckdiff.report.words.sections import WHOLE, Selection
from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from ckdiff.report.schema.behaviour import AnswerRecord, AnswerSet, Behaviour, ChoiceSet, HistoryPoint, Mean
    from ckdiff.report.schema.report import Report
    from ckdiff.report.words.behaviour import Piece


CHANGED = {"same": "", "gone": "red", "new": "green"}
"""The colour of words that are gone from the base's answer, and of those that are new in the unlearned model's."""


LEGEND = (
    "BLEU: of the unlearned answers against the base's, 1: word for word the same;",
    "exact: share of answers that are the very same tokens; log p (nats a token) and",
    "ppl: of the base's answers. In brackets: 95 % intervals over questions.",
)


CHOICE_LEGEND = (
    "right: share of right picks; chance: the same by guessing; p(right): the right",
    "choice's share of the probability. In brackets: 95 % intervals over questions.",
)


HISTORY_LEGEND = "memory: the weights as trained; saved: as a checkpoint on disk holds them, rounded"


def view(report: Report, selection: Selection = WHOLE) -> RenderableType:
    """Everything a reader of `ckdiff behave` needs, for a terminal of 80 columns and more."""
    found = report.behaviour
    head = facts([*pair_facts(report), *(_facts_of(found) if found is not None else ())])
    parts: list[RenderableType] = [head]
    if not report.complete:
        parts.append(Text("INCOMPLETE: the run was interrupted", style="bold red"))
    if not measured(found):
        parts.append(Text(NOTHING_ASKED, style="bold red"))
    if found is not None:
        parts += _sections(found, selection.questions)
    return Group(*itertools.chain.from_iterable((part, Text()) for part in parts))


def _facts_of(found: Behaviour) -> Iterator[tuple[str, str]]:
    yield "model type", found.model_type or "not stated"
    if found.method:
        yield "method", f"{found.method}, as the unlearned checkpoint says"
    yield "settings", behaviour_settings(found) or "not stated"
    yield from ((printable(name), shorten(line, 160)) for name, line in source_lines(found))


def _sections(found: Behaviour, limit: int) -> Iterator[RenderableType]:
    if found.answers:
        yield titled("Answers", _summary(found.answers))
    if found.choices is not None:
        yield titled("Multiple choice", _choices(found.choices))
    if found.neutral is not None:
        yield titled("Neutral text", _neutral(found))
    for answers in found.answers:
        if limit > 0 and answers.questions:
            yield titled(f"What they say, {printable(answers.name)}: most changed first", _side_by_side(answers, limit))
    if found.history:
        yield titled("While it was unlearned", _history(found.history))
    if remark := saved_remark(found.history):
        yield titled("Read with care", bullets([remark]))
    if found.notes:
        yield titled("Notes", bullets(found.notes))


def _summary(sets: Sequence[AnswerSet]) -> RenderableType:
    table = _numbers_table("set", ("questions", "BLEU", "exact", "log p\nbase → unlearned", "ppl\nbase → unlearned"))
    for one in sets:
        table.add_row(
            safe(one.name),
            f"{len(one.questions):,}",
            _with_interval(one.bleu),
            _with_interval(one.exact),
            arrow(short_number(one.logprob_base.value), short_number(one.logprob_unlearned.value)),
            arrow(perplexity_text(one.perplexity_base), perplexity_text(one.perplexity_unlearned)),
        )
    return Group(table, _dim(LEGEND))


def _choices(found: ChoiceSet) -> RenderableType:
    heads = ("questions", "right\nbase", "right\nunlearned", "chance", "p(right)\nbase", "p(right)\nunlearned")
    table = _numbers_table("set", heads)
    table.add_row(
        safe(found.name or "choices"),
        f"{len(found.questions):,}",
        _with_interval(found.accuracy_base),
        _with_interval(found.accuracy_unlearned),
        share_text(found.chance),
        _with_interval(found.probability_base),
        _with_interval(found.probability_unlearned),
    )
    return Group(table, _dim(CHOICE_LEGEND))


def _neutral(found: Behaviour) -> RenderableType:
    neutral = found.neutral
    assert neutral is not None
    table = _numbers_table("texts", ("tokens", "KL(base ‖ unlearned), nats a token", "perplexity\nbase → unlearned"))
    tokens = sum(text.tokens for text in neutral.texts)
    perplexity = arrow(perplexity_text(neutral.perplexity_base), perplexity_text(neutral.perplexity_unlearned))
    table.add_row(f"{len(neutral.texts):,}", f"{tokens:,}", kl_text(neutral), perplexity)
    return table


def _numbers_table(first: str, numbers: Iterable[str]) -> Table:
    """Narrower than `plain_table`: all of it fits into 80 columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column(Text(first), overflow="fold")
    number_columns(table, numbers)
    return table


def _with_interval(mean: Mean) -> str:
    """A share, and under it its interval."""
    return f"{share_text(mean.value)}\n{interval_text(mean)}".rstrip()


def _dim(lines: Iterable[str]) -> Text:
    return Text("\n".join(lines), style="dim")


def _side_by_side(answers: AnswerSet, limit: int) -> RenderableType:
    """Those that changed most first, an empty line between them."""
    parts: list[RenderableType] = []
    for question in most_changed(answers, limit):
        pair = _Pair(changes(question.answer_base, question.answer_unlearned))
        parts += [*([Text()] if parts else []), _question(question), pair]
    if (left := len(answers.questions) - limit) > 0:
        parts.append(Text(f"… and {left:,} more, which changed less", style="dim"))
    return Group(*parts)


def _question(question: AnswerRecord) -> Text:
    words = Text(shorten(printable(question.text), 400), style="bold")
    return words.append(f"\n{answer_facts(question)}", style="not bold dim")


class _Pair:
    """Two answers side by side; what changed is marked in colour, or with marks where the console has none."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = pieces

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        colour = console.color_system is not None and not console.no_color
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
        for name in ("base", "unlearned"):
            table.add_column(Text(name), ratio=1, overflow="fold")
        sides = (side(self.pieces) for side in (of_base, of_unlearned))
        table.add_row(*(_answer(pieces, colour) for pieces in sides))
        yield table


def _answer(pieces: Sequence[Piece], colour: bool) -> Text:
    if not pieces:
        return Text("(no words)", style="dim")
    words = ((piece.words, CHANGED[piece.kind]) if colour else (marked(piece), "") for piece in pieces)
    return Text(" ").join(Text(text, style=style) for text, style in words)


def _history(history: Sequence[HistoryPoint]) -> RenderableType:
    table = plain_table("step", ("epoch", "loss", "target BLEU", "unrelated BLEU"))
    table.add_column(Text("weights"), no_wrap=True, vertical="bottom")
    shown = shown_points(history)
    for point in shown:
        bleus = share_text(point.target_bleu), share_text(point.unrelated_bleu)
        state = Text(printable(point.state), style="bold" if point.state == "saved" else "")
        table.add_row(f"{point.step:,}", short_number(point.epoch), short_number(point.loss), *bleus, state)
    legend = [HISTORY_LEGEND]
    if len(shown) < len(history):
        legend.append(f"{len(shown)} of {len(history):,} points; the report holds all of them")
    return Group(table, _dim(legend))
