"""`depth`: how much the unlearned model still carries of what a model that never knew lacks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ckdiff.calls.ask import read_questions_of
from ckdiff.calls.margins import check_second, join_depth, read_second_depth
from ckdiff.calls.merge import merge_reports
from ckdiff.calls.paths import take_paths
from ckdiff.calls.provenance import begin_report, check_existing, identity, identity_of, open_pair
from ckdiff.calls.reference import digest_of_reference
from ckdiff.calls.specs import DepthSpec
from ckdiff.options import check_options

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.probes.live.model import LiveModel
    from ckdiff.probes.outline import Outline
    from ckdiff.probes.preparation import Job
    from ckdiff.progress import Listener
    from ckdiff.report.schema.report import Report


@take_paths(DepthSpec)
def depth(
    spec: DepthSpec,
    listener: Listener | None = None,
    existing: Report | None = None,
    keep: Path | None = None,
    resume: bool = False,
) -> Report:
    """A report of how deep the unlearning goes, beside a model that never knew.

    Args:
        spec: which three models, with which questions.
        listener: told of progress, asked whether to stop.
        existing: a report of the same pair; the depth is put into it, in the place of an older one.
        keep: a file to keep an unfinished depth in.
        resume: go on with what is kept there.

    Raises:
        CkdiffError: the models, the questions or the settings do not allow it.
    """
    from ckdiff.probes.depth.section import Beside, Keeping, run

    job, live = prepare_depth(spec)
    base, unlearned, reference = job.pair.base.checkpoint, job.pair.unlearned.checkpoint, live.checkpoint
    found = begin_report(base, unlearned, spec.hash, listener, existing, "torch", "transformers")
    digest = digest_of_reference(reference, found.provenance, spec.hash, listener)
    second = None if spec.margins is None else read_second_depth(spec.margins, spec.compat)
    if second is not None:
        check_second(second, found.provenance, digest, job.questions.digest, "depth")
    beside = Beside(reference, spec.reference_kind or "", digest)
    weights = f"{identity(base, unlearned, found.provenance)} {digest or identity_of(reference)}"
    keeping = None if keep is None else Keeping(keep, weights, resume)
    deep = run(job, live, beside, listener, spec.compat, keeping)
    deep = deep if second is None else join_depth(deep, second)
    return merge_reports(existing, replace(found, depth=deep))


def prepare_depth(spec: DepthSpec) -> tuple[Job, LiveModel]:
    """Everything that can be refused, refused before a weight is read: the pair and its questions, and the reference.

    Raises:
        CkdiffError: the models, the questions or the settings do not allow it.
    """
    from ckdiff.probes.depth.section import DepthError, open_reference
    from ckdiff.probes.preparation import prepare
    from ckdiff.weights.opening import open_checkpoint

    check_options(spec, DepthError)
    if not spec.reference:
        raise DepthError("depth: is measured beside a model that never knew; name one with --reference")
    questions = read_questions_of(spec)
    spec.settings.check()
    base, unlearned = open_pair(spec)
    reference = open_checkpoint(spec.reference, spec.adapter_base)
    job = prepare(base, unlearned, questions, spec.settings)
    live, notes = open_reference(job, reference)
    job.notes += notes
    return job, live


def outline(spec: DepthSpec, existing: Report | None = None) -> Outline:
    """An outline of a depth: its runs, the memory it wants, about how long it takes; no weights are read."""
    from ckdiff.probes.depth.outline import outline as look

    check_existing(spec, existing)
    return look(*prepare_depth(spec))
