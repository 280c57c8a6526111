"""Do target answers look trained on, beside answers that no model here was trained on? `holdout_set(...)`.

A score that is greater for texts that a model has seen is taken of each target answer and of each hold-out answer; how
well it tells the two apart is its AUC. The formulas are `scoring.field`; a score is one row of `SCORES`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.probes.behaviour.field_scores import given_prompts
from ckdiff.questions.streams import RecordsError
from ckdiff.report.schema.behaviour import HoldOut, MemberScore
from ckdiff.scoring import field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ckdiff.probes.forcing import Spread
    from ckdiff.probes.prompts import Prompt
    from ckdiff.probes.wording.wording import Wording
    from ckdiff.questions.asked import Asked
    from ckdiff.questions.questions import QuestionSet

SHARE = 0.4
"""Of an answer's tokens, the least likely: what OpenUnlearning takes for TOFU and MUSE."""

SCORES: dict[str, Callable[[Spread], float]] = {
    "min_k": lambda one: field.min_k(one.log_p.numpy(), SHARE),
    "min_k_plus": lambda one: field.min_k_plus(one.log_p.numpy(), one.mean.numpy(), one.deviation.numpy(), SHARE),
}
"""Scores that are greater for texts that a model was trained on, by their name in the report."""


def member_prompts(
    wording: Wording, asked: Asked, given: Sequence[Sequence[Prompt]], context: int | None
) -> list[Prompt]:
    """The answers that are scored: those of the file to target questions, then those of the hold-out questions.

    Nothing without hold-out questions.

    Raises:
        RecordsError: some of them have no answer, or a hold-out question is a target question.
    """
    if asked.holdout is None:
        return []
    if asked.target is None or not all(given[: len(asked.target.questions)]):
        raise RecordsError(
            "--holdout: stands beside target questions with answers of their file; name such a file with --questions"
        )
    others = given_prompts(wording, asked.holdout.questions, context)
    if not all(others):
        raise RecordsError("--holdout: a question of it has no answer (or none that fits); give every one an answer")
    targets = {one.text for one in asked.target.questions}
    if twice := next((one.text for one in asked.holdout.questions if one.text in targets), ""):
        raise RecordsError(
            f"--holdout: {twice[:60]!r} is a target question; give questions that nothing was trained on"
        )
    return [one[0] for one in (*given[: len(asked.target.questions)], *others)]


def holdout_set(asked: QuestionSet, targets: int, spreads: Mapping[str, Sequence[Spread]]) -> HoldOut:
    """Every score of every model, and what it tells apart.

    Args:
        asked: the hold-out questions.
        targets: how many target answers stand before theirs.
        spreads: by model what it makes of the prompts of `member_prompts`.
    """
    return HoldOut(asked.source, asked.digest, tuple(_score(name, targets, spreads) for name in SCORES))


def _score(name: str, targets: int, spreads: Mapping[str, Sequence[Spread]]) -> MemberScore:
    each = {side: np.array([SCORES[name](one) for one in every]) for side, every in spreads.items()}
    auc = {side: field.member_auc(values[:targets], values[targets:]) for side, values in each.items()}
    lists = {"reference": ()} | {side: tuple(map(float, values)) for side, values in each.items()}
    values: dict[str, Any] = {f"auc_{side}": auc.get(side, math.nan) for side in lists}
    values |= {f"target_{side}": every[:targets] for side, every in lists.items()}
    values |= {f"holdout_{side}": every[targets:] for side, every in lists.items()}
    return MemberScore(name=name, leak=field.leak_beside(auc["unlearned"], auc.get("reference")), **values)
