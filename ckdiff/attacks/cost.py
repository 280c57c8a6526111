"""The cost of attacks: `estimate(task, attacks, ...)`, before a weight is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.attacks.table import ATTACKS
from ckdiff.attacks.training import training_bytes
from ckdiff.probes import cost
from ckdiff.probes.preparation import DTYPES
from ckdiff.scoring.matching import LARGEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.attacks.case import Options
    from ckdiff.probes.behaviour.behaviour import AskJob

LONGEST = 64
"""Tokens of the longest text of a training, about."""


def estimate(
    task: AskJob, attacks: Sequence[str], options: Options, reference: bool
) -> tuple[dict[str, int], int, int, bool, dict[int, float]]:
    """Texts by attack, bytes of memory needed and free, whether models are streamed, and seconds by tier, about."""
    job, live = task.job, task.job.pair.base
    target = task.asked.target
    asked = 0 if target is None else len(target.questions)
    sides = 2 + int(reference)
    rows = [ATTACKS[name] for name in attacks]
    texts = {
        row.name: row.cost(asked, min(asked, LARGEST), options) * (sides if len(row.sides) > 1 else 1) for row in rows
    }
    itemsize = DTYPES[job.settings.dtype].itemsize
    whole = live.parameter_bytes(itemsize)
    trained = training_bytes(live, options.training == "lora", LONGEST) if any(row.trains for row in rows) else 0
    memory = max(whole * max(row.together for row in rows), trained)
    length = max((len(prompt.ids) for prompt in job.prompts), default=1) + min(job.settings.tokens, 10)
    each = 2 * 2 * (whole / itemsize) * length / cost.speed(job.device, DTYPES[job.settings.dtype])
    seconds: dict[int, float] = {}
    for row in rows:
        seconds[row.tier] = seconds.get(row.tier, 0.0) + each * texts[row.name]
    return texts, memory, cost.free_memory(job.device), task.way.stream, seconds
