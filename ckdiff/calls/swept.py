"""What a probe in an audit puts back: what was swept before, or now. `find_swept(...)`, `sweep(...)`."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from ckdiff.probes.preparation import Job
    from ckdiff.probes.probe import Choose
    from ckdiff.progress import Listener
    from ckdiff.report.schema.behaviour import Behaviour
    from ckdiff.report.schema.probe import Probe

UNTOLD = ("windows", "aligned")
"""Settings that say what was found necessary on the way: runs are looked at instead, and weights are the same."""


def sweep(
    job: Job,
    said: Behaviour,
    listener: Listener,
    kept: tuple[Path, str] | None,
    resume: bool,
    choose: Choose,
    done: Probe | None,
) -> Probe:
    """The probe, of the answers that the base has given already; `done` where it is the very same one.

    Args:
        job: what is put back; it gets the answers.
        said: by both models.
        listener: told of progress, asked whether to stop.
        kept: where an unfinished sweep is kept, and a digest of the weights.
        resume: go on with it.
        choose: gives the modes whose windows are needed.
        done: a probe of these very weights by these very libraries, or None.
    """
    from ckdiff.probes.probe import run

    target = next((one for one in said.answers if one.name == "target"), None)
    if job.generate and target is not None and target.digest == job.questions.digest:
        job.known = [list(row.answer_base_ids) for row in target.questions]
    if found := find_swept(job, choose, done):
        listener.remark("probed already: nothing is put back again")
        return found
    return run(job, listener, kept, resume, choose)


def find_swept(job: Job, choose: Choose, done: Probe | None) -> Probe | None:
    """What was swept already, where the same was asked and put back in the same way, and no window lacks; else None.

    Args:
        job: what would be put back now, with the answers where the base has given them.
        choose: gives the modes whose windows are needed.
        done: of the very same weights, or None.
    """
    from ckdiff.probes.preparation import settings_record

    if done is None or _how(done.settings) != _how(settings_record(job)):
        return None
    answers = job.known if job.generate else [list(prompt.answer) for prompt in job.prompts]
    if answers is None or _asked_now(job, answers) != [
        (row.text, row.prompt_tokens, list(row.answer_ids), row.cluster) for row in done.questions
    ]:
        return None
    held = {(run.direction, run.mode, run.variant) for run in done.runs}
    return done if held.issuperset(_wanted(job, choose(done))) else None


def _how(settings: Mapping[str, str]) -> dict[str, str]:
    return {name: told for name, told in settings.items() if name not in UNTOLD}


def _asked_now(job: Job, answers: Sequence[Sequence[int]]) -> list[tuple[str, int, list[int], int]]:
    """Each question with the length of its prompt, the ids that are scored, and the fact that it is about."""
    from ckdiff.questions.clusters import find_clusters

    said = [job.decode(ids) for ids in answers]
    clusters = find_clusters([prompt.question for prompt in job.prompts], said)
    rows = zip(job.prompts, answers, clusters, strict=True)
    return [(prompt.question.text, len(prompt.ids), list(ids), cluster) for prompt, ids, cluster in rows]


def _wanted(job: Job, modes: Iterable[str]) -> set[tuple[str, str, str]]:
    """The runs that are planned, and the windows of such of these modes as are put back at all."""
    from ckdiff.modes import is_planned

    settings = job.settings
    more = product(settings.directions, {*modes} & {*settings.modes}, settings.variants)
    return {one.name for one in job.plan.sweeps} | {one for one in more if is_planned(*one[1:])}
