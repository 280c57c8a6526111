"""A behaviour in Markdown: the numbers before and after, and the answers that changed most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.markdown.parts import bullet_list, escape, table
from ckdiff.report.words import behaviour as words
from ckdiff.report.words import members
from ckdiff.report.words.intervals import means_text, texts_text
from ckdiff.untrusted import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.behaviour import AnswerSet, Behaviour
    from ckdiff.report.schema.report import Report

LISTED_ANSWERS = 5
"""Questions of each set whose answers are listed, those that changed most first."""

ANSWER_HEADS = ("set", "questions", "BLEU", "exact", "log p, base → unlearned", "perplexity, base → unlearned")


def parts(report: Report) -> Iterator[str]:
    """Everything, a paragraph, list or table each."""
    yield "## ckdiff behave"
    found = report.behaviour
    if not words.asks_anything(found):
        yield f"**{words.NOTHING_ASKED}**"
    if found is None:
        return
    method = [f"method: {found.method}, as the unlearned checkpoint says"] if found.method else []
    settings = words.behaviour_settings(found) or "settings not stated"
    sources = [f"{name}: {line}" for name, line in words.source_lines(found)]
    yield bullet_list([found.model_type or "model type not stated", *method, settings, *sources])
    yield from _numbers(found)
    yield from _texts(found)


def _numbers(found: Behaviour) -> Iterator[str]:
    if found.answers:
        yield "### Answers"
        yield table(ANSWER_HEADS, map(words.answer_cells, found.answers), left=1)
        if (chrf := words.chrf_line(found.answers)) is not None:
            yield escape(chrf)
        yield escape(f"In brackets: {means_text(found.settings)}.")
    if rows := list(words.field_rows(found.answers)):
        yield "### As benchmarks report it"
        yield table(words.field_heads(found.answers), rows, left=2)
        yield escape(words.field_note(found.answers))
    yield from _members(found)
    if found.choices is not None:
        yield "### Multiple choice"
        count, *right, chance, before, after = words.choice_cells(found.choices)
        row = [count, words.arrow(*right), chance, words.arrow(before, after)]
        yield table(("questions", "right, base → unlearned", "chance", "p(right), base → unlearned"), [row], left=0)
        yield escape(f"In brackets: {means_text(found.settings)}.")
    if found.neutral is not None:
        yield "### Neutral text"
        count, _, *figures = words.neutral_cells(found.neutral)
        yield table(("texts", "KL a token, nats", "perplexity, base → unlearned"), [[count, *figures]], left=0)
        yield escape(f"In brackets: {texts_text(found.settings)}.")


def _members(found: Behaviour) -> Iterator[str]:
    if lines := list(members.reference_lines(found)):
        yield bullet_list(lines)
    if rows := list(members.member_rows(found)):
        yield f"### {members.TITLE}"
        yield table(members.HEADS, rows, left=1)
        yield escape(" ".join((members.member_note(found), *members.LEGEND)))


def _texts(found: Behaviour) -> Iterator[str]:
    for answers in found.answers:
        if answers.questions:
            yield f"### What they say, {escape(answers.name)}"
            yield table(("question", "base", "unlearned", "numbers"), _answer_rows(answers), left=4)
    if found.history:
        yield "### While it was unlearned"
        points = map(words.history_cells, words.shown_points(found.history))
        rows = ([step, state, *figures] for step, *figures, state in points)
        yield table(("step", "weights", "epoch", "loss", "target BLEU", "unrelated BLEU"), rows, left=2)
    if remark := words.saved_remark(found.history):
        yield bullet_list([remark])
    if found.notes:
        yield "### Notes"
        yield bullet_list(found.notes)


def _answer_rows(answers: AnswerSet) -> Iterator[list[str]]:
    for question in words.rank_by_change(answers, LISTED_ANSWERS):
        pieces = words.changes(question.answer_base, question.answer_unlearned)
        sides = (" ".join(map(words.mark_piece, side(pieces))) for side in (words.of_base, words.of_unlearned))
        yield [shorten(question.text, 200), *(side or "(no words)" for side in sides), words.answer_facts(question)]
