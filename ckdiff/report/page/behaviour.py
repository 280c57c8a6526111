"""Answers side by side, multiple choice, neutral text and history: what `ckdiff behave` found."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ckdiff.report.page.parts import Part, cut, question_anchor
from ckdiff.report.page.svg import Steps, steps
from ckdiff.report.words import members
from ckdiff.report.words.behaviour import (
    Piece,
    arrow,
    asks_anything,
    choice_text,
    has_bleu,
    history_cells,
    short_number,
    shown_points,
)
from ckdiff.report.words.intervals import means_text, texts_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ckdiff.report.schema.behaviour import (
        AnswerRecord,
        Behaviour,
        ChoiceRecord,
        ChoiceSet,
        HistoryPoint,
        NeutralSet,
    )
    from ckdiff.report.schema.report import Report

FIRST = 3
"""Answers of a set that are not folded."""

BUDGET = 80_000
"""Characters of markup for the answers of one set; what is beyond is counted."""


def show(report: Report) -> Mapping[str, object] | None:
    """Everything that was asked, target first."""
    found = report.behaviour
    if found is None or not asks_anything(found):
        return None
    return {
        "sets": sorted(found.answers, key=lambda one: one.name != "target"),
        "intervals": means_text(found.settings),
        "over_texts": texts_text(found.settings),
        "budget": BUDGET,
        "first": FIRST,
        "anchor": question_anchor,
        "same": _same,
        "whole": _whole,
        **_members(found),
        "choices": found.choices,
        "picks": list(_picks(found.choices)) if found.choices is not None else [],
        "neutral": found.neutral,
        "texts": list(_texts(found.neutral)) if found.neutral is not None else [],
    }


def _members(found: Behaviour) -> Mapping[str, object]:
    rows = list(members.member_rows(found))
    return {
        "title": members.TITLE if rows else "Beside a model that never knew",
        "beside": list(members.reference_lines(found)),
        "members": rows,
        "member_heads": members.HEADS,
        "member_note": members.member_note(found),
        "member_legend": " ".join(members.LEGEND),
    }


def _same(one: AnswerRecord) -> bool:
    return one.exact or one.answer_base == one.answer_unlearned


def _whole(one: AnswerRecord) -> list[Piece]:
    return [Piece("same", words)] if (words := cut(one.answer_base, 2000)) else []


def _picks(found: ChoiceSet) -> Iterator[tuple[object, ...]]:
    for one in sorted(found.questions, key=lambda one: one.picked_base == one.picked_unlearned):
        picks = (_pick(one, index) for index in (one.picked_base, one.picked_unlearned))
        yield cut(one.text, 300), cut(choice_text(one, one.answer), 120), *picks


def _pick(one: ChoiceRecord, index: int) -> tuple[bool, str]:
    return index == one.answer, cut(choice_text(one, index), 120)


def _texts(found: NeutralSet) -> Iterator[tuple[str, ...]]:
    for one in sorted(found.texts, key=lambda one: -one.kl if not math.isnan(one.kl) else math.inf):
        surprise = arrow(short_number(one.nll_base), short_number(one.nll_unlearned))
        yield cut(one.text, 160), str(one.tokens), short_number(one.kl), surprise


def show_history(report: Report) -> Mapping[str, object] | None:
    """The history that the maker of the unlearned checkpoint measured while making it."""
    found = report.behaviour
    if found is None or not (found.history or found.method):
        return None
    points = shown_points(found.history)
    return {"found": found, "drawn": _bleu_curve(points), "points": [history_cells(point) for point in points]}


def _bleu_curve(points: Sequence[HistoryPoint]) -> Steps | None:
    memory = [point for point in points if point.state == "memory"]
    if not has_bleu(memory) or len(memory) < 2:
        return None
    drawn = [(point.step, point.target_bleu, point.unrelated_bleu) for point in memory]
    return steps(drawn, "BLEU of target and unrelated answers by step")


PARTS = (
    Part(14, "answers", "Answers side by side", "answers.html", show),
    Part(70, "history", "How it was unlearned", "history.html", show_history, paper=False),
)
