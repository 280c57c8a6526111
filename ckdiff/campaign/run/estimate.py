"""A rough cost of each job of a plan: seconds, memory, bytes read. `estimates(tasks, store, bytes)`.

What was measured on jobs of the same kind goes before what is computed: a job that is done has told its seconds and its
memory. The rest comes from `calls.probe.outline`, once for jobs that differ in nothing but the pair's weights.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ckdiff.errors import CkdiffError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ckdiff.campaign.records import Task
    from ckdiff.campaign.run.store import Store


READS = {"compare": 1, "behave": 1, "probe": 1, "audit": 3, "attack": 3, "depth": 1}
"""How often a job reads the weights of its pair, where they fit into memory."""


PLACED = 0.2
"""Of the curves of all modes those that a verdict asks for, about."""


COMPARED = 5e8
"""Bytes that a comparison goes through in a second, roughly."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost of one job.

    Attributes:
        seconds: of its run; NaN: not known.
        memory: bytes at the peak; 0: not known.
        bytes: that it reads.
        measured: from a job that is done.
        reason: why it cannot be told; "".
    """

    seconds: float
    memory: int
    bytes: int
    measured: bool = False
    reason: str = ""


def estimates(tasks: Sequence[Task], store: Store, sizes: Mapping[str, int]) -> dict[str, Estimate]:
    """The cost of each job, by key.

    Args:
        tasks: jobs, done or not.
        store: knows what was done.
        sizes: bytes of both checkpoints, by key.
    """
    kinds = {task.key: _kind(task, sizes[task.key]) for task in tasks}
    measured: dict[str, list[tuple[float, int]]] = {}
    for task in tasks:
        outcome = store.outcome(task.key)
        if outcome is not None and outcome.state == "done" and outcome.seconds > 0:
            measured.setdefault(kinds[task.key], []).append((outcome.seconds, outcome.peak))
    known: dict[str, Estimate] = {}
    for task in tasks:
        kind, size = kinds[task.key], sizes[task.key]
        if kind not in known:
            known[kind] = _from_history(measured[kind], task, size) if kind in measured else _from_size(task, size)
    return {task.key: known[kinds[task.key]] for task in tasks}


def seconds_left(found: Iterable[Estimate], workers: int) -> float:
    """Seconds that jobs take with so many workers, if all keep busy; NaN where one is not known."""
    return sum(one.seconds for one in found) / max(1, workers)


def _kind(task: Task, size: int) -> str:
    """The key that jobs of one kind have in common: everything but the weights, whose size is rounded to 5 %."""
    import math

    spec = asdict(task.spec)
    for name in ("base", "unlearned", "adapter_base", "policy", "concept"):
        spec.pop(name, None)
    rounded = round(math.log(max(size, 1)) / math.log(1.05))
    return json.dumps([task.run, task.threads, task.gpus, rounded, spec], sort_keys=True, default=str)


def _from_history(found: list[tuple[float, int]], task: Task, size: int) -> Estimate:
    seconds = fmean(one for one, _ in found)
    return Estimate(seconds, max(peak for _, peak in found), READS[task.run] * size, measured=True)


def _from_size(task: Task, size: int) -> Estimate:
    if task.run == "compare":
        return Estimate(size / COMPARED, 0, size)
    try:
        return _from_outline(task, size)
    except (CkdiffError, OSError) as error:
        return Estimate(float("nan"), 0, READS[task.run] * size, reason=str(error))


def _from_outline(task: Task, size: int) -> Estimate:
    import torch

    from ckdiff.calls.attack import outline as look
    from ckdiff.calls.depth import outline as look_deep
    from ckdiff.calls.probe import outline
    from ckdiff.calls.specs import DepthSpec, ProbeSpec

    # Its speed is measured as the job will run.
    before = torch.get_num_threads()
    torch.set_num_threads(task.threads)
    try:
        spec: Any = task.spec
        if task.run == "attack":
            attacked = look(spec)
            return Estimate(attacked.seconds, attacked.memory, READS[task.run] * size)
        if isinstance(spec, ProbeSpec | DepthSpec):
            found = outline(spec) if isinstance(spec, ProbeSpec) else look_deep(spec)
            return Estimate(found.seconds, found.memory, found.bytes_read)
        least = replace(spec.settings, modes=("coeff",), variants=("open",), directions=("restore",), layers=(0,))
        said = outline(ProbeSpec(spec.base, spec.unlearned, spec.questions, spec.asked, spec.concept, settings=least))
        # Two models write an answer and read it: about three forwards of each, and as much for unrelated questions.
        forward = said.seconds * said.plain / max(said.operations, 1.0) / (said.runs + 2)
        answers = 12 * forward * (1 + spec.most_unrelated / max(said.questions, 1))
        if task.run == "behave" or spec.probe is None:
            return Estimate(answers, said.memory // 2, size)
        probed = outline(spec.probe)
        sweep = probed.seconds
        if probed.least is not None:
            sweep = probed.least[1] + PLACED * (sweep - probed.least[1])
        seconds, memory, read = sweep + answers + size / COMPARED, probed.memory, probed.bytes_read + 2 * size
        if spec.attack is not None:
            attacked = look(spec.attack)
            seconds, memory, read = seconds + attacked.seconds, max(memory, attacked.memory), read + size
        return Estimate(seconds, memory, read)
    finally:
        torch.set_num_threads(before)
