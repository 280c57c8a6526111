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

SWEPT = 0.25
"""Share of all windows that a verdict needs, as audits of real pairs had them: 0.1 to 0.4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """Work that has not begun.

    Attributes:
        runs: forwards through upper layers, controls included.
        operations: floating-point operations.
        memory: bytes of weights and states at the peak.
        passes: over the layers.
        bytes_read: stored bytes read from the checkpoints, without hashing them.
        seconds: about how long, without loading.
        notes: about how it is asked, known before the work.
    """

    model_type: str
    layers: int
    questions: int
    positions: int
    scored: int
    runs: int
    operations: float
    memory: int
    free: int
    stream: bool
    passes: int
    bytes_read: int
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOutline(Outline):
    """The work of a probe.

    Attributes:
        windows: window centres.
        plain: the operations of one full forward a run.
        least: where only windows that a verdict needs are swept, the runs and the seconds of one that needs none.
    """

    windows: tuple[int, ...]
    plain: float
    least: tuple[int, float] | None = None

    @property
    def expected(self) -> float:
        """The seconds where a verdict needs as many of the windows as those of real pairs did."""
        least = self.seconds if self.least is None else self.least[1]
        return least + SWEPT * (self.seconds - least)


def outline(base: Checkpoint, unlearned: Checkpoint, questions: QuestionSet, settings: Settings) -> ProbeOutline:
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
    rate = cost.layer_speed(job.device, DTYPES[job.settings.dtype])
    largest = max(sum(states[number] for number in group) for group in job.passes)
    return ProbeOutline(
        model_type=job.pair.base.row.model_type,
        layers=size.layers,
        windows=job.centres,
        questions=len(job.prompts),
        positions=size.positions,
        scored=size.scored,
        runs=len(job.plan.runs),
        operations=work,
        plain=cost.plain_operations(len(job.plan.runs), size),
        memory=weights + largest,
        free=cost.free_memory(job.device),
        stream=job.stream,
        passes=len(job.passes),
        bytes_read=reads * sum(stored) + generation,
        seconds=work / rate,
        notes=tuple(job.notes),
        least=None if first is None else _least(job, first, size, work, rate),
    )


def _answering(job: Job, size: Sizes) -> float:
    """Operations of the answers that are generated; a streamed base keeps no cache: each token takes the whole text."""
    rows = size.positions if job.stream else len(job.prompts)
    return 2.0 * job.settings.tokens * size.layers * (size.attention + size.mlp) * rows if job.generate else 0.0


def _least(job: Job, first: Schedule, size: Sizes, work: float, rate: float) -> tuple[int, float]:
    """Runs and seconds where a verdict needs no window at all."""
    whole, part = (cost.operations(plan, size, job.settings.kl) for plan in (job.plan, first))
    return len(first.runs), (work - whole + part) / rate
