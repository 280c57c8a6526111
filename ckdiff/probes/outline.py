"""The outline of a probe, before a weight is read: `outline(base, unlearned, questions, settings)`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckdiff.probes import cost
from ckdiff.probes.preparation import DTYPES, add_windows, prepare, settle
from ckdiff.probes.sweep import SIDES

if TYPE_CHECKING:
    from ckdiff.probes.cost import Sizes
    from ckdiff.probes.preparation import Job
    from ckdiff.questions.questions import QuestionSet
    from ckdiff.scoring.runs import Schedule
    from ckdiff.scoring.settings import Settings
    from ckdiff.weights.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class Outline:
    """The work of a probe that has not begun.

    Attributes:
        windows: window centres.
        runs: forwards through upper layers, controls included.
        operations: floating-point operations of the sweep and the losses.
        plain: the same, by one full forward a run.
        memory: bytes of weights and states at the peak.
        passes: over the layers.
        bytes_read: stored bytes read from the checkpoints.
        seconds: about how long, without loading.
        least: where only windows that a verdict needs are swept, the runs and the seconds of one that needs none.
    """

    model_type: str
    layers: int
    windows: tuple[int, ...]
    questions: int
    positions: int
    scored: int
    runs: int
    operations: float
    plain: float
    memory: int
    free: int
    stream: bool
    passes: int
    bytes_read: int
    seconds: float
    least: tuple[int, float] | None = None


def outline(base: Checkpoint, unlearned: Checkpoint, questions: QuestionSet, settings: Settings) -> Outline:
    """The runs of a probe, the memory that it wants and about how long it takes; no weights are read.

    Answers that would be generated are counted at their full length.
    """
    job = prepare(base, unlearned, questions, settings)
    job.prompts = [replace(prompt, answer=prompt.answer or (0,) * settings.tokens) for prompt in job.prompts]
    first = None if job.windowed is None else job.plan
    add_windows(job, settings.modes)
    size, states, weights = settle(job)
    reads = len(job.passes) if job.stream else 1
    stored = [job.pair.side(side).stored_bytes() for side in SIDES]
    generation = settings.tokens * stored[0] if job.generate and job.stream else 0
    work = cost.operations(job.plan, size, settings.kl)
    if settings.neurons:
        windows = len(settings.directions) * len({"open", "whole"} & set(settings.variants))
        work += windows * cost.plain_operations(cost.NEURON_FORWARDS, size)
        reads += windows * cost.NEURON_READS if job.stream else 0
    work += _answering(job, size)
    rate = _rate(job)
    largest = max(sum(states[number] for number in group) for group in job.passes)
    return Outline(
        job.pair.base.row.model_type,
        size.layers,
        job.centres,
        len(job.prompts),
        size.positions,
        size.scored,
        len(job.plan.runs),
        work,
        cost.plain_operations(len(job.plan.runs), size),
        weights + largest,
        cost.free_memory(job.device),
        job.stream,
        len(job.passes),
        reads * sum(stored) + generation,
        work / rate,
        None if first is None else _least(job, first, size, work, rate),
    )


def _answering(job: Job, size: Sizes) -> float:
    """Operations of the answers that are generated; a streamed base keeps no cache: each token takes the whole text."""
    rows = size.positions if job.stream else len(job.prompts)
    return 2.0 * job.settings.tokens * size.layers * (size.attention + size.mlp) * rows if job.generate else 0.0


def _rate(job: Job) -> float:
    """Operations a second: products of a layer's size run at half the speed of a large one, with all around them."""
    return cost.speed(job.device, DTYPES[job.settings.dtype]) / 2


def _least(job: Job, first: Schedule, size: Sizes, work: float, rate: float) -> tuple[int, float]:
    """Runs and seconds where a verdict needs no window at all."""
    whole, part = (cost.operations(plan, size, job.settings.kl) for plan in (job.plan, first))
    return len(first.runs), (work - whole + part) / rate
