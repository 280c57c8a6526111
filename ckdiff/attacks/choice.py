"""Multiple choice: recognition can outlive generation. `outcomes(case, live, side)` needs questions of --choices."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.attacks.case import AttackError, Outcome
from ckdiff.probes.behind import read_answers
from ckdiff.report.words.numbers import with_interval
from ckdiff.scoring.means import mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.attacks.case import Case
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.report.schema.attack import Attacked


def outcomes(case: Case, live: LiveModel, side: Attacked) -> Iterator[Outcome]:
    """One outcome: the share of right picks, in its note.

    Raises:
        AttackError: there are no choices.
    """
    asked = case.task.asked.choices
    if asked is None:
        raise AttackError("no multiple-choice questions were given; name a file with --choices")
    with case.loaded(live):
        plain = case.plain.get(side) or case.read(live, side)
        reads = read_answers(live, case.task.choices, case.way)
    means = iter([float(one.log_p.mean()) for one in reads])
    right = [
        float(int(np.argmax([next(means) for _ in question.choices])) == question.answer)
        for question in asked.questions
    ]
    chance = sum(1 / len(question.choices) for question in asked.questions) / len(asked.questions)
    found = mean(np.array(right), 0, 1)
    share = with_interval(found.value, found.low, found.high, "{:.3f}".format)
    words = f"right picks {share} of {len(right)}, by chance {chance:.3f}"
    reading = replace(plain, said={}, table=np.full_like(plain.table, np.nan), texts=len(reads))
    yield Outcome("mean log p of each choice", reading, decides=False, note=words)
