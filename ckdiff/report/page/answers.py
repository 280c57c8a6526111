"""Answers side by side, multiple choice, neutral text and history: what `ckdiff behave` found."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ckdiff.report.page.markup import Safe, cut, escaped, facts, folded, joined, left_out, paragraph, table, tag
from ckdiff.report.page.svg import steps
from ckdiff.report.words.behaviour import (
    Piece,
    answer_facts,
    arrow,
    changes,
    has_bleu,
    kl_text,
    mean_text,
    most_changed,
    of_base,
    of_unlearned,
    perplexity_text,
    picked,
    saved_remark,
    share_text,
    short_number,
    shown_points,
)
from ckdiff.report.words.numbers import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.report.schema.behaviour import (
        AnswerRecord,
        AnswerSet,
        Behaviour,
        ChoiceRecord,
        ChoiceSet,
        HistoryPoint,
        NeutralSet,
    )

OPEN_ANSWERS = 5
"""Questions of a set that are seen at once; the others are folded."""
LISTED_ANSWERS = 100
BUDGET = 80_000
"""Characters of markup for the answers of one set; what is beyond is counted."""
LISTED_CHOICES = 60
LISTED_TEXTS = 20
ENDS = {"gone": "del", "new": "ins"}


def behaviour(found: Behaviour) -> Safe:
    """Everything that was asked, target first."""
    sets = sorted(found.answers, key=lambda one: one.name != "target")
    return joined(*map(_answers, sets), _choices(found.choices), _neutral(found.neutral))


# --------------------------------------------------------------------------------------------------------- answers


def _answers(found: AnswerSet) -> Safe:
    shown = _within_budget([_answer(one) for one in most_changed(found, LISTED_ANSWERS)])
    rest = shown[OPEN_ANSWERS:]
    return joined(
        tag("h3", cut(f"{found.name}: {counted(len(found.questions), 'question')}", 120)),
        facts(_means(found)),
        paragraph("Answers that changed most come first. ", tag("del", "gone"), " ", tag("ins", "new"), class_="muted"),
        *shown[:OPEN_ANSWERS],
        folded(f"{len(rest)} more", *rest) if rest else None,
        left_out(len(found.questions) - len(shown), "answer"),
    )


def _within_budget(parts: Sequence[Safe]) -> list[Safe]:
    """As many as fit."""
    shown: list[Safe] = []
    room = BUDGET
    for part in parts:
        room -= len(part)
        if room < 0:
            break
        shown.append(part)
    return shown


def _means(found: AnswerSet) -> Iterator[tuple[str, str]]:
    yield "BLEU against the base's answers", mean_text(found.bleu)
    yield "The very same answers", mean_text(found.exact)
    logs = arrow(short_number(found.logprob_base.value), short_number(found.logprob_unlearned.value))
    yield "log p of the base's answers, nats a token", logs
    yield "Perplexity", arrow(*map(perplexity_text, (found.perplexity_base, found.perplexity_unlearned)))


def _answer(one: AnswerRecord) -> Safe:
    question = tag("h4", cut(one.text) or "(no text)")
    figures = paragraph(answer_facts(one), class_="muted")
    if one.exact or one.answer_base == one.answer_unlearned:
        return tag(
            "article", question, figures, _side("both", [Piece("same", cut(one.answer_base, 2000))]), class_="qa"
        )
    pieces = changes(one.answer_base, one.answer_unlearned)
    sides = tag("div", _side("base", of_base(pieces)), _side("unlearned", of_unlearned(pieces)), class_="sides")
    return tag("article", question, figures, sides, class_="qa")


def _side(name: str, pieces: Sequence[Piece]) -> Safe:
    words = [tag(ENDS[piece.kind], piece.words) if piece.kind in ENDS else escaped(piece.words) for piece in pieces]
    said = joined(*words, by=" ") or tag("i", "(nothing)")
    return tag("div", tag("b", name), tag("p", said), class_="side")


# ----------------------------------------------------------------------------------------- multiple choice, neutral


def _choices(found: ChoiceSet | None) -> Safe:
    if found is None:
        return Safe()
    order = sorted(found.questions, key=lambda one: one.picked_base == one.picked_unlearned)
    rows = [_choice(one) for one in order[:LISTED_CHOICES]]
    heads = ("question", "right", "base picks", "unlearned picks")
    return joined(
        tag("h3", cut(f"Multiple choice: {counted(len(found.questions), 'question')}", 120)),
        facts(
            (
                ("Right before", mean_text(found.accuracy_base)),
                ("Right after", mean_text(found.accuracy_unlearned)),
                ("By guessing", share_text(found.chance)),
                (
                    "Probability of the right choice",
                    arrow(mean_text(found.probability_base), mean_text(found.probability_unlearned)),
                ),
            )
        ),
        folded("The questions", table("Picks that changed come first", heads, rows, words=(0, 1, 2, 3)))
        if rows
        else None,
        left_out(len(order) - LISTED_CHOICES, "question"),
    )


def _choice(one: ChoiceRecord) -> tuple[str, ...]:
    return (
        cut(one.text, 300),
        cut(picked(one, one.answer), 120),
        _pick(one, one.picked_base),
        _pick(one, one.picked_unlearned),
    )


def _pick(one: ChoiceRecord, index: int) -> Safe:
    sign = tag(
        "span", "✓" if index == one.answer else "✗", class_=f"mark {'passed' if index == one.answer else 'failed'}"
    )
    return joined(sign, " ", cut(picked(one, index), 120))


def _neutral(found: NeutralSet | None) -> Safe:
    if found is None:
        return Safe()
    order = sorted(found.texts, key=lambda one: -one.kl if not math.isnan(one.kl) else math.inf)
    rows = [
        (
            cut(one.text, 160),
            str(one.tokens),
            short_number(one.kl),
            arrow(short_number(one.nll_base), short_number(one.nll_unlearned)),
        )
        for one in order[:LISTED_TEXTS]
    ]
    heads = ("text", "tokens", "KL", "-log p")
    return joined(
        tag("h3", f"Neutral text: {counted(len(found.texts), 'text')}"),
        facts(
            (
                ("KL(base || unlearned), nats a token", kl_text(found)),
                ("Perplexity", arrow(*map(perplexity_text, (found.perplexity_base, found.perplexity_unlearned)))),
            )
        ),
        folded("The texts", table("Texts that changed most come first", heads, rows)) if rows else None,
        left_out(len(order) - LISTED_TEXTS, "text"),
    )


# --------------------------------------------------------------------------------------------------------- history


def history(found: Behaviour) -> Safe:
    """What the maker of the unlearned checkpoint measured while making it."""
    points = shown_points(found.history)
    rows = [
        (
            str(point.step),
            f"{point.epoch:.3g}",
            short_number(point.loss),
            share_text(point.target_bleu),
            share_text(point.unrelated_bleu),
            cut(point.state, 40),
        )
        for point in points
    ]
    heads = ("step", "epoch", "loss", "target BLEU", "unrelated BLEU", "weights")
    remark = saved_remark(found.history)
    return joined(
        paragraph("Method, as the checkpoint says it: ", tag("b", cut(found.method) or "not said"), "."),
        _bleu_curve(points),
        folded("The points", table("BLEU and loss at each step", heads, rows, words=(5,))),
        left_out(len(found.history) - len(points), "point"),
        paragraph(tag("strong", "Note: "), remark, ".") if remark else None,
    )


def _bleu_curve(points: Sequence[HistoryPoint]) -> Safe:
    memory = [point for point in points if point.state == "memory"]
    if not has_bleu(memory) or len(memory) < 2:
        return Safe()
    drawn = steps(
        [(p.step, p.target_bleu, p.unrelated_bleu) for p in memory], "BLEU of target and unrelated answers by step"
    )
    names = (("kl", "target BLEU"), ("ce", "unrelated BLEU"))
    legend = [tag("li", tag("span", class_=f"line {kind}"), " ", words) for kind, words in names]
    return tag("figure", tag("ul", *legend, class_="legend"), drawn, class_="alone")
