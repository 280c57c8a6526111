"""How long each part of an audit will take, about, before the first weight is read: `expected_seconds(...)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.calls.attack import options_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.calls.specs import AuditSpec
    from ckdiff.probes.behaviour.behaviour import AskJob
    from ckdiff.probes.outline import ProbeOutline
    from ckdiff.probes.preparation import Job
    from ckdiff.weights.checkpoint import Checkpoint

READ = 3e8
"""Bytes a second that are read, hashed and compared."""

READ_IN_ALL = 70_000
"""Positions that go through a model, about, until a discovery by default has ended."""

ONE_BY_ONE = 4.0
"""Answers are made a token at a time, which takes so many times as long as reading them."""


def expected_seconds(
    spec: AuditSpec, sides: Sequence[Checkpoint], task: AskJob, job: Job | None, reference: Checkpoint | None
) -> dict[str, float]:
    """By part of an audit the seconds that it will take, about.

    Args:
        spec: of the audit.
        sides: both checkpoints.
        task: what both models are asked.
        job: the probe, or None.
        reference: a model that never knew, or None.
    """
    return dict(_parts(spec, sides, task, job, reference))


def _parts(
    spec: AuditSpec, sides: Sequence[Checkpoint], task: AskJob, job: Job | None, reference: Checkpoint | None
) -> Iterator[tuple[str, float]]:
    from ckdiff.attacks.cost import estimate
    from ckdiff.probes.outline import outline

    yield "compare", sum(shard.size for one in sides for shard in one.shards) / READ
    yield "behave", _asking(task, 2 if reference is None else 3)
    if job is not None:
        seen = outline(sides[0], sides[1], job.questions, spec.settings)
        yield "probe", seen.expected
        if reference is not None:
            yield "depth", _tracing(seen)
    if spec.discover:
        yield "discover", READ_IN_ALL * _a_position(task)
    if spec.attack is not None:
        *_, tiers = estimate(task, spec.attack.chosen, options_of(spec.attack), reference is not None)
        yield "attack", sum(tiers.values())


def _asking(task: AskJob, models: int) -> float:
    """Each model reads every prompt, and answers the open questions a token at a time."""
    job = task.job
    prompts = [*job.prompts, *task.choices, *task.texts, *task.members, *(one for rows in task.given for one in rows)]
    read = sum(len(one.ids) + len(one.answer) for one in prompts)
    said = ONE_BY_ONE * len(job.prompts) * job.settings.tokens
    return models * (read + said) * _a_position(task)


def _a_position(task: AskJob) -> float:
    """Seconds in which one position goes through a model."""
    from ckdiff.probes import cost
    from ckdiff.probes.preparation import DTYPES

    job = task.job
    itemsize = DTYPES[job.settings.dtype].itemsize
    weights = job.pair.base.parameter_bytes(itemsize) / itemsize
    return 2 * weights / cost.layer_speed(job.device, DTYPES[job.settings.dtype])


def _tracing(seen: ProbeOutline) -> float:
    """A depth is two runs a layer, which begin in the middle on average."""
    return seen.layers * seen.plain / seen.runs * (seen.seconds / seen.operations if seen.operations else 0.0)
