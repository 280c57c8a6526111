"""What attacks cost: `estimate(task, attacks, ...)`, before a weight is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.attacks.table import ATTACKS
from ckdiff.probes import cost
from ckdiff.probes.preparation import DTYPES
from ckdiff.scoring.matching import LARGEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.probes.behaviour.behaviour import Task

TRAINED = 4
"""Parameters, gradients and two moments: what a parameter in training takes, in parameters."""


def estimate(
    task: Task, attacks: Sequence[str], samples: int, reference: bool
) -> tuple[dict[str, int], int, int, bool, float]:
    """Texts by attack, bytes of memory needed and free, whether models are streamed, and about how many seconds."""
    job, live = task.job, task.job.pair.base
    target = task.asked.target
    asked = 0 if target is None else len(target.questions)
    sides = 2 + int(reference)
    rows = [ATTACKS[name] for name in attacks]
    texts = {
        row.name: row.cost(asked, min(asked, LARGEST), samples) * (sides if len(row.sides) > 1 else 1) for row in rows
    }
    itemsize = DTYPES[job.settings.dtype].itemsize
    whole = live.parameter_bytes(itemsize)
    memory = whole * (TRAINED if any(row.tier == 2 for row in rows) else 1)
    length = max((len(prompt.ids) for prompt in job.prompts), default=1) + min(job.settings.tokens, 10)
    work = 2 * (whole / itemsize) * length * sum(texts.values())
    seconds = 2 * work / cost.speed(job.device, DTYPES[job.settings.dtype])
    return texts, memory, cost.free_memory(job.device), task.way.stream, seconds
