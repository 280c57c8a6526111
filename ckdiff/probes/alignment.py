"""The unlearned model of a probe in the base's order: `align_job(job, listener)`, before anything is put back.

Neurons may stand in any order, and some may be scaled, without any change in what a model says; but a state of one
order means nothing in another. So where they are found elsewhere, the unlearned model's weights are handed out in the
base's order and scale. That this is the same function is not taken on trust: both forms answer some of the questions,
and where a logit differs by more than rounding, nothing is touched and the report says so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ckdiff.probes.forcing import Way, force, logits_of
from ckdiff.report.words.compare import alignment_sentence
from ckdiff.weights.alignment.alignment import find_alignment
from ckdiff.weights.alignment.moves import align_checkpoint
from ckdiff.weights.pairs import suspect_layers

if TYPE_CHECKING:
    from torch import Tensor

    from ckdiff.probes.live.model import LiveModel
    from ckdiff.probes.preparation import Job
    from ckdiff.progress import Listener
    from ckdiff.weights.checkpoint import Checkpoint

ASKED = 4
"""Questions that both forms of the model answer."""

TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""The most that a logit may change, as a share of the largest: sums in another order round otherwise. Aligned weights
are float32, so that float64 is no closer than they are."""


def align_job(job: Job, listener: Listener) -> None:
    """Let a job's unlearned model be read in the base's order, where it stands in another."""
    live, base = job.pair.unlearned, job.pair.base.checkpoint
    stored = live.checkpoint
    suspects = suspect_layers(base, stored) if job.suspects is None else job.suspects
    found = find_alignment(base, stored, suspects)
    if not found.moves:
        return
    listener.progress("aligning", 0, 1, "neurons and heads in the base's order")
    change, largest = _change(job, align_checkpoint(stored, base, found.moves))
    said = alignment_sentence(found.rows)
    if change <= TOLERANCE[live.dtype] * largest:
        job.aligned = ",".join(dict.fromkeys(str(row.layer) for row in found.rows))
        job.notes.append(
            f"{said}: it was measured in the base's order and scale, in which no logit differs by more than"
            f" {change:.1e} (the largest is {largest:.3g})"
        )
    else:
        live.read_from(stored)
        job.notes.append(
            f"{said}, but in the base's order a logit differs by {change:.1e} (the largest is {largest:.3g}):"
            " it was measured as it is stored"
        )
    listener.progress("aligning", 1, 1, "")


def _change(job: Job, aligned: Checkpoint) -> tuple[float, float]:
    """The greatest difference of a logit between a model as stored and aligned, and the largest logit.

    The model is left reading the aligned weights, with no layer in memory.
    """
    live = job.pair.unlearned
    before = _logits(job, live)
    live.read_from(aligned)
    after = _logits(job, live)
    return float((after - before).abs().max()), float(before.abs().max())


def _logits(job: Job, live: LiveModel) -> Tensor:
    """Logits behind some of the questions [question, d_vocab], float64; the layers are read one at a time."""
    prompts = [replace(prompt, answer=(0,)) for prompt in job.prompts[:ASKED]]
    live.load_ends()
    forced = force(live, prompts, Way(job.settings.batch_size, stream=True))
    return torch.cat([logits.double() for _, logits in logits_of(forced)])
