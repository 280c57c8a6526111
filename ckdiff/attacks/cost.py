"""The cost of attacks: `estimate(task, attacks, ...)`, before a weight is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckdiff.attacks.abreast import places
from ckdiff.attacks.answers import MATCHED
from ckdiff.attacks.case import BEYOND, UNRELATED, UNRELATED_TOKENS
from ckdiff.attacks.table import ATTACKS, Work
from ckdiff.attacks.training import BATCH, training_bytes
from ckdiff.probes import cost
from ckdiff.probes.preparation import DTYPES
from ckdiff.scoring.matching import LARGEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.attacks.case import Options
    from ckdiff.attacks.table import Attack
    from ckdiff.probes.behaviour.behaviour import AskJob

LONGEST = 64
"""Tokens of the longest text of a training, about."""
ANSWER = 20
"""Tokens of an answer that the base goes on with as far as it may, up to the end of its line, about."""
BEGUN = 3 * MATCHED
"""Tokens of an answer behind another question, at most, about: those that are matched, and what stands between."""
WEIGHTS = 2
"""The tier whose attacks are made of a suppressed copy of the base as well."""
OPENING = Work(matched=1, said=2)
"""What each model makes of the questions before the first attack."""


def estimate(
    task: AskJob, attacks: Sequence[str], options: Options, reference: bool
) -> tuple[dict[str, int], int, int, bool, dict[int, float]]:
    """Texts by attack, bytes of memory needed and free, whether models are streamed, and seconds by tier, about."""
    job, live = task.job, task.job.pair.base
    rows = [ATTACKS[name] for name in attacks]
    asked = Asked.of(task)
    itemsize = DTYPES[job.settings.dtype].itemsize
    whole = live.parameter_bytes(itemsize)
    trained = training_bytes(live, options.training == "lora", LONGEST) if any(row.trains for row in rows) else 0
    beside = whole * max(row.together for row in rows) * places(task, attacks)
    memory = max(beside, trained)
    each = 2 * (whole / itemsize) / cost.layer_speed(job.device, DTYPES[job.settings.dtype])
    texts: dict[str, int] = {}
    seconds = {min(row.tier for row in rows): each * sum(asked.positions(OPENING) for _ in range(2 + reference))}
    for row in rows:
        works = _works(row, options, reference, any(one.trains for one in rows))
        texts[row.name] = round(sum(map(asked.texts, works)))
        seconds[row.tier] = seconds.get(row.tier, 0.0) + each * sum(map(asked.positions, works))
    return texts, memory, cost.free_memory(job.device), task.way.stream, seconds


def _works(row: Attack, options: Options, reference: bool, twin: bool) -> list[Work]:
    """What an attack puts through each model that it is made on."""
    work = row.cost(options)
    sides = [side for side in row.sides if side != "reference" or reference]
    if row.trains or row.tier != WEIGHTS or not twin:
        # Of the base one training is repeated, which is little; the twin stands for all of them.
        sides = [side for side in sides if side != ("base" if row.trains else "twin")]
    return [replace(work, matched=0, own=work.own + work.matched) if side == "base" else work for side in sides]


@dataclass(frozen=True, slots=True)
class Asked:
    """What there is to ask and to answer.

    Attributes:
        questions: about what was to be unlearned.
        unrelated: other ones that each altered model is asked.
        prompt: tokens of a question as it is asked.
        answer: tokens of an answer that is looked for, about.
        tokens: that an answer may have.
    """

    questions: int
    unrelated: int
    prompt: float
    answer: float
    tokens: int

    @classmethod
    def of(cls, task: AskJob) -> Asked:
        """The questions of a task."""
        target, prompts = task.asked.target, task.job.prompts
        count = 0 if target is None else len(target.questions)
        length = sum(len(prompt.ids) for prompt in prompts) / max(1, len(prompts))
        tokens = task.job.settings.tokens
        return cls(count, min(UNRELATED, len(prompts) - count), length, min(tokens, ANSWER), tokens)

    def texts(self, work: Work) -> float:
        """How many texts go through a model; those that are trained on three times."""
        read = work.matched * self.questions * min(self.questions, LARGEST) + work.own * self.questions
        beside = (work.matched + work.own) * self.unrelated
        return read + beside + work.said * self.questions + 3 * BATCH * work.steps

    def positions(self, work: Work) -> float:
        """How many positions these texts have; a prompt is read once for all answers behind it."""
        n, group, long = self.questions, min(self.questions, LARGEST), self.prompt + self.answer
        read = work.matched * n * (long + (group - 1) * min(self.answer, BEGUN)) + work.own * n * long
        beside = (work.matched + work.own) * self.unrelated * (self.prompt + min(self.tokens, UNRELATED_TOKENS))
        said = work.said * n * (self.prompt + min(self.tokens, self.answer + BEYOND))
        return read + beside + said + 3 * BATCH * work.steps * long
