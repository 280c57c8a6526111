"""A behaviour in Markdown: the numbers before and after, and the answers that changed most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.markdown.parts import escape, listed, table
from ckdiff.report.words.behaviour import (
    NOTHING_ASKED,
    answer_facts,
    arrow,
    behaviour_settings,
    changes,
    kl_text,
    marked,
    mean_text,
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
from ckdiff.untrusted import shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ckdiff.report.schema.behaviour import AnswerSet, Behaviour
    from ckdiff.report.schema.report import Report

LISTED_ANSWERS = 5
"""Questions of each set whose answers are listed, those that changed most first."""


def parts(report: Report) -> Iterator[str]:
    """Everything, a paragraph, list or table each."""
    yield "## ckdiff behave"
    if report.behaviour is not None:
        yield from _sections(report.behaviour)


def _sections(found: Behaviour) -> Iterable[str]:
    if not measured(found):
        yield f"**{NOTHING_ASKED}**"
    method = [f"method: {found.method}, as the unlearned checkpoint says"] if found.method else []
    sources = [f"{name}: {line}" for name, line in source_lines(found)]
    settings = behaviour_settings(found) or "settings not stated"
    yield listed([found.model_type or "model type not stated", *method, settings, *sources])
    if found.answers:
        yield "### Answers"
        heads = ("set", "questions", "BLEU", "exact", "log p, base → unlearned", "perplexity, base → unlearned")
        yield table(heads, map(_answer_cells, found.answers), left=1)
    yield from _other_sections(found)
    for answers in found.answers:
        if answers.questions:
            yield f"### What they say, {escape(answers.name)}"
            yield table(("question", "base", "unlearned", "numbers"), _said(answers), left=4)
    if found.history:
        yield "### While it was unlearned"
        columns = ("step", "weights", "epoch", "loss", "target BLEU", "unrelated BLEU")
        yield table(columns, _history_cells(found), left=2)
    if remark := saved_remark(found.history):
        yield listed([remark])
    if found.notes:
        yield "### Notes"
        yield listed(found.notes)


def _other_sections(found: Behaviour) -> Iterable[str]:
    """What was not answered in words: multiple choice and neutral text."""
    if (one := found.choices) is not None:
        yield "### Multiple choice"
        right = mean_text(one.accuracy_base), mean_text(one.accuracy_unlearned)
        probability = mean_text(one.probability_base), mean_text(one.probability_unlearned)
        cells = [str(len(one.questions)), arrow(*right), share_text(one.chance), arrow(*probability)]
        yield table(("questions", "right, base → unlearned", "chance", "p(right), base → unlearned"), [cells], left=0)
    if (neutral := found.neutral) is not None:
        yield "### Neutral text"
        perplexity = arrow(perplexity_text(neutral.perplexity_base), perplexity_text(neutral.perplexity_unlearned))
        cells = [str(len(neutral.texts)), kl_text(neutral), perplexity]
        yield table(("texts", "KL a token, nats", "perplexity, base → unlearned"), [cells], left=0)


def _answer_cells(found: AnswerSet) -> list[str]:
    logs = short_number(found.logprob_base.value), short_number(found.logprob_unlearned.value)
    perplexity = perplexity_text(found.perplexity_base), perplexity_text(found.perplexity_unlearned)
    means = mean_text(found.bleu), mean_text(found.exact)
    return [found.name, str(len(found.questions)), *means, arrow(*logs), arrow(*perplexity)]


def _said(answers: AnswerSet) -> Iterable[list[str]]:
    for question in most_changed(answers, LISTED_ANSWERS):
        pieces = changes(question.answer_base, question.answer_unlearned)
        sides = (" ".join(map(marked, side(pieces))) or "(no words)" for side in (of_base, of_unlearned))
        yield [shorten(question.text, 200), *sides, answer_facts(question)]


def _history_cells(found: Behaviour) -> Iterable[list[str]]:
    for point in shown_points(found.history):
        bleus = share_text(point.target_bleu), share_text(point.unrelated_bleu)
        yield [str(point.step), point.state, short_number(point.epoch), short_number(point.loss), *bleus]
