"""A pair, questions and settings in, a `Probe` out: `probe_pair(base, unlearned, questions, settings)`.

The order of the work: `jobs.prepare`, the base's answers, the sweep in as many passes as memory wants, `assembly`, and
where they are asked for the neurons of the windows that matter.
Nothing is written here but the state of an interrupted sweep.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ckdiff.probes import kept_sweep as partial
from ckdiff.probes.alignment import align_job
from ckdiff.probes.assembly import Finals, Known, assemble
from ckdiff.probes.base_answers import library_versions, recall_or_make
from ckdiff.probes.forcing import Way, greedy_streamed
from ckdiff.probes.kept_sweep import Progress
from ckdiff.probes.live.generation import greedy
from ckdiff.probes.neurons.search import neuron_sets
from ckdiff.probes.preparation import add_windows, chunk_of, prepare, settings_record, settle
from ckdiff.probes.prompts import batches
from ckdiff.probes.sweep import SIDES, Sweep
from ckdiff.probes.wording.remarks import silence
from ckdiff.progress import Listener, Stopped
from ckdiff.questions.clusters import clusters_note, find_clusters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ckdiff.probes.preparation import Job
    from ckdiff.probes.sweep import State
    from ckdiff.questions.questions import QuestionSet
    from ckdiff.report.schema.probe import Probe
    from ckdiff.scoring.settings import Settings
    from ckdiff.weights.checkpoint import Checkpoint

    Choose = Callable[[Probe], Iterable[str]]
    """Of a probe the modes whose windows are needed, some of which it may have."""


KEEP_EVERY = 120.0
"""Seconds between two copies of an unfinished sweep on disk."""


KEEP_AT_END = 30.0
"""Seconds since the last copy after which the end of a sweep is worth one."""


def probe_pair(
    base: Checkpoint,
    unlearned: Checkpoint,
    questions: QuestionSet,
    settings: Settings,
    listener: Listener | None = None,
    kept: tuple[Path, str] | None = None,
    resume: bool = False,
) -> Probe:
    """Restoration probes on live activations.

    Args:
        base: the model before.
        unlearned: the model after.
        questions: to ask.
        settings: how.
        listener: told of progress, asked whether to stop.
        kept: where an unfinished sweep is kept, and a digest of the weights that it belongs to.
        resume: go on with what is kept there.

    Raises:
        NothingToRecoverError: the two models give the same logits.
        Stopped: the listener asked for it; what was done is kept.
        CkdiffError: the pair, the questions or the settings do not allow a probe.
    """
    return run(prepare(base, unlearned, questions, settings), listener, kept, resume)


def run(
    job: Job,
    listener: Listener | None = None,
    kept: tuple[Path, str] | None = None,
    resume: bool = False,
    choose: Choose | None = None,
) -> Probe:
    """The probe of a prepared job; see `probe_pair`.

    Where the job does not sweep every mode's windows, `choose` is asked whose windows are needed, and asked again once
    they are scored.
    """
    listener = listener or Listener()
    # A gradient needs parameters that were not made in inference mode.
    with torch.no_grad() if job.settings.neurons else torch.inference_mode():
        align_job(job, listener)
        key = _key(job, kept[1]) if kept else ""
        progress = partial.load(kept[0], key, job.device) if kept and resume else None
        answers = find_answers(job, listener, progress.answers if progress else None)
        progress = progress or Progress(answers, 0, None, {}, job.passes)
        finals, result = _measure(job, progress, listener, (kept[0], key) if kept else None, choose)
        return _with_neurons(job, finals, result, listener) if job.settings.neurons else result


def _measure(
    job: Job, progress: Progress, listener: Listener, kept: tuple[Path, str] | None, choose: Choose | None
) -> tuple[Finals, Probe]:
    """Round by round: what is planned is swept and scored, and windows are added until no more are needed."""
    _begin_rounds(job, progress)
    known = Known()
    while True:
        finals = _sweep_all(job, progress, listener, kept)
        listener.progress("scores", 0, 1, "logits and losses")
        result = assemble(job, finals, known)
        listener.progress("scores", 1, 1, "")
        wanted = [] if job.windowed is None or choose is None else choose(result)
        more = [mode for mode in wanted if mode in job.settings.modes and mode not in (job.windowed or ())]
        if not more:
            return finals, result
        progress.windows.append(more)
        add_windows(job, more)
        job.rounds.append(len(job.plan.runs))
        progress.passes = job.passes


def _begin_rounds(job: Job, progress: Progress) -> None:
    """The rounds of an interrupted sweep, whose passes are those that were kept; else the first."""
    job.rounds = [len(job.plan.runs)]
    for modes in progress.windows:
        add_windows(job, modes)
        job.rounds.append(len(job.plan.runs))
    job.passes = progress.passes


def find_answers(job: Job, listener: Listener, known: list[list[int]] | None = None) -> list[list[int]]:
    """The answers that are scored; the job's prompts get them, and the facts that they are about."""
    answers = _answers(job, listener) if known is None else known
    job.prompts = [replace(prompt, answer=tuple(ids)) for prompt, ids in zip(job.prompts, answers, strict=True)]
    job.notes += silence(job.tokenizer, answers, "questions")
    _find_clusters(job)
    settle(job)
    return answers


def _find_clusters(job: Job) -> None:
    """Which questions are about one fact follows from what they are answered with, too."""
    answers = [job.tokenizer.decode(list(prompt.answer), skip_special_tokens=True) for prompt in job.prompts]
    clusters = find_clusters([prompt.question for prompt in job.prompts], answers)
    job.prompts = [replace(prompt, cluster=cluster) for prompt, cluster in zip(job.prompts, clusters, strict=True)]
    job.notes += clusters_note(clusters)


def _with_neurons(job: Job, finals: Finals, found: Probe, listener: Listener) -> Probe:
    """The same probe, with the neurons that carry its windows."""

    def pause() -> None:
        if listener.stop():
            raise Stopped

    def tick(done: int, total: int, detail: str) -> None:
        listener.progress("neurons", done, total, detail)

    sets, notes = neuron_sets(job, finals, found, tick, pause)
    return replace(found, neurons=sets, notes=(*found.notes, *notes))


def _answers(job: Job, listener: Listener) -> list[list[int]]:
    """The base's first greedily generated tokens, or what the file gave."""
    if not job.generate:
        return [list(prompt.answer) for prompt in job.prompts]
    if job.known is not None:
        return job.known
    count, says = len(job.prompts), "the base answers the questions"
    listener.progress("answers", 0, count, says)
    base, tokens = job.pair.base, job.settings.tokens
    job.prompts = [replace(prompt, answer=(0,) * tokens) for prompt in job.prompts]
    settle(job)
    way = Way(job.settings.batch_size, job.stream, room=job.room // 8)

    def make() -> list[list[int]]:
        if job.stream:
            return _streamed_answers(job, listener)
        _load_all(job)
        ids, most = [list(prompt.ids) for prompt in job.prompts], job.settings.batch_size
        return greedy(base, ids, tokens, job.stops, most, lambda done: listener.progress("answers", done, count, says))

    found = recall_or_make(job, job.prompts, way, listener.cache, make)
    listener.progress("answers", count, count, "")
    return found


def _streamed_answers(job: Job, listener: Listener) -> list[list[int]]:
    """Greedy answers of a model that is read layer by layer: once a token, all questions together."""
    base, tokens = job.pair.base, job.settings.tokens

    def tick(done: int) -> None:
        listener.progress("answers", done, tokens, "the base answers, reading its weights once a token")
        if listener.stop():
            raise Stopped

    tick(0)
    base.load_ends()
    way = Way(job.settings.batch_size, stream=True, room=job.room // 8)
    answers = greedy_streamed(base, job.prompts, tokens, job.stops, way, tick)
    base.unload_unembedding()
    return answers


def _load_all(job: Job) -> None:
    for side in SIDES:
        job.pair.side(side).load()


def _sweep_all(job: Job, progress: Progress, listener: Listener, kept: tuple[Path, str] | None) -> Finals:
    """All passes over the layers; what each ends in is added to `progress.finals`."""
    parts = batches(job.prompts, job.settings.batch_size, job.device, job.pair.regime)
    if not job.stream:
        _load_all(job)
    for number in range(progress.number, len(job.passes)):
        sweep = Sweep(job.pair, parts, job.plan, job.passes[number], chunk_of(job))
        progress.number = number
        state = _one_pass(job, sweep, progress, listener, kept)
        if job.stream:
            for side in SIDES:
                job.pair.side(side).load_ends(embedding=False)
        own, finals = sweep.finals(state)
        progress.finals |= finals
        progress.state, progress.number = None, number + 1
    heads = {side: job.pair.side(side).unembedding(sweep.own_scored(state, side)) for side in SIDES}
    return Finals(heads, own, progress.finals)


def _one_pass(job: Job, sweep: Sweep, progress: Progress, listener: Listener, kept: tuple[Path, str] | None) -> State:
    layers = len(job.pair.base.layers)
    if job.stream:
        for side in SIDES:
            job.pair.side(side).load_ends(unembedding=False)
    begun = sweep.begin()
    state = begun if progress.state is None else progress.state
    if job.stream:
        for side in SIDES:
            job.pair.side(side).unload_embedding()
    steps = _steps(job, sweep, layers)
    done = sum(steps[: state.layer])
    saved = time.monotonic()
    while state.layer < layers:
        layer = state.layer
        detail = f"layer {layer + 1}/{layers}, {steps[layer]} runs{_subject(job, progress)}"
        listener.progress("layers", done, sum(steps), detail)
        if job.stream:
            for side in SIDES:
                job.pair.side(side).load_layer(layer)
        sweep.advance(state)
        if job.stream:
            for side in SIDES:
                job.pair.side(side).unload_layer(layer)
        done += steps[layer]
        progress.state = state
        stop, since = listener.stop(), time.monotonic() - saved
        # After the last layer too: what comes then can be interrupted as well.
        late = since > (KEEP_EVERY if state.layer < layers else KEEP_AT_END)
        late |= state.layer == layers and job.settings.neurons
        if kept and (stop or late):
            _keep(kept, progress, listener)
            saved = time.monotonic()
        if stop:
            raise Stopped
    listener.progress("layers", sum(steps), sum(steps), "")
    return state


def _subject(job: Job, progress: Progress) -> str:
    """What a round finds out, where there are several."""
    if job.windowed is None:
        return ""
    return f": where, by {' and '.join(progress.windows[-1])}" if progress.windows else ": what matters at all"


def _steps(job: Job, sweep: Sweep, layers: int) -> list[int]:
    """Runs that go through each layer, both models' own among them."""
    firsts = [job.plan.runs[number].first for number in sweep.numbers]
    return [2 + sum(first <= layer for first in firsts) for layer in range(layers)]


def _keep(kept: tuple[Path, str], progress: Progress, listener: Listener) -> None:
    try:
        partial.save(*kept, progress)
    except Exception as error:
        listener.remark(
            f"{kept[0]}: what is done could not be kept ({str(error)[:100]}); free some disk to use --resume"
        )


def _key(job: Job, weights: str) -> str:
    """Digest of everything that determines the numbers."""
    prompts_ids = [prompt.ids for prompt in job.prompts]
    text = json.dumps(
        [
            settings_record(job),
            prompts_ids,
            weights,
            library_versions(),
            torch.get_num_threads(),
            job.settings.batch_size,
        ]
    )
    return hashlib.sha256(text.encode()).hexdigest()
