"""The cost of a depth before a weight is read: `outline(job, reference)`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ckdiff.probes import cost
from ckdiff.probes.depth.runs import MODELS, Trio, split_groups
from ckdiff.probes.depth.section import how_of
from ckdiff.probes.outline import Outline
from ckdiff.probes.preparation import DTYPES, settle

if TYPE_CHECKING:
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.probes.preparation import Job


def outline(job: Job, reference: LiveModel) -> Outline:
    """The runs of a depth, the memory that it wants and about how long it takes; no weights are read.

    A run is the base with the states of another model put in behind one layer.

    Answers that would be generated are counted at their full length.
    """
    job.prompts = [replace(prompt, answer=prompt.answer or (0,) * job.settings.tokens) for prompt in job.prompts]
    size, _, _ = settle(job)
    trio = Trio(job.pair.base, job.pair.unlearned, reference)
    how, itemsize = how_of(job, trio, compat=False), DTYPES[job.settings.dtype].itemsize
    groups, state = split_groups(trio, job.prompts, how)
    models, layers = [trio.of(name) for name in MODELS], size.layers
    passes = len(groups) if how.stream else 1
    stored = sum(live.stored_bytes() for live in models)
    generation = job.settings.tokens * job.pair.base.stored_bytes() if job.generate and job.stream else 0
    work = _operations(size)
    if job.generate:
        rows = size.positions if job.stream else len(job.prompts)
        work += 2.0 * job.settings.tokens * layers * (size.attention + size.mlp) * rows
    return Outline(
        model_type=job.pair.base.row.model_type,
        layers=layers,
        questions=len(job.prompts),
        positions=size.positions,
        scored=size.scored,
        runs=2 * layers,
        operations=work,
        memory=_weights(models, itemsize, how.stream) + max(state),
        free=cost.free_memory(job.device),
        stream=how.stream,
        notes=tuple(job.notes),
        passes=passes,
        bytes_read=passes * stored + generation,
        seconds=work / cost.layer_speed(job.device, DTYPES[job.settings.dtype]),
    )


def _operations(size: cost.Sizes) -> float:
    """Three models once, the base from each layer on for both others, and the unembedding for whatever is read."""
    layers = size.layers
    through = (3 * layers + layers * (layers - 1)) * (size.attention + size.mlp) * size.positions
    return 2.0 * (through + (5 * layers + 3) * size.head * size.scored)


def _weights(models: list[LiveModel], itemsize: int, streamed: bool) -> int:
    """Bytes of the weights that are in memory at once: a layer of each model and what lies outside, or everything."""
    whole = [live.parameter_bytes(itemsize) for live in models]
    if not streamed:
        return sum(whole)
    layers = [[live.layer_bytes(number, itemsize) for number in range(len(live.layers))] for live in models]
    return sum(all_of - sum(own) + max(own) for all_of, own in zip(whole, layers, strict=True))
