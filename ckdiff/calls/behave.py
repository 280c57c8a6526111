"""`behave`: both models are asked, and their answers are compared."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ckdiff.calls.ask import read_asked
from ckdiff.calls.merge import merge_reports
from ckdiff.calls.paths import take_paths
from ckdiff.calls.provenance import begin_report, open_pair
from ckdiff.calls.reference import digest_of_reference
from ckdiff.calls.said import open_never
from ckdiff.calls.specs import BehaveSpec
from ckdiff.calls.unfinished import Unfinished
from ckdiff.progress import Listener

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.probes.behaviour.behaviour import AskJob
    from ckdiff.probes.behaviour.beside import NeverKnew
    from ckdiff.report.schema.report import Report


@take_paths(BehaveSpec)
def behave(
    spec: BehaveSpec,
    listener: Listener | None = None,
    existing: Report | None = None,
    keep: Path | None = None,
    resume: bool = False,
) -> Report:
    """A report of the answers of both models: on target and unrelated questions, multiple choice and neutral text.

    Args:
        spec: what to ask, and how.
        listener: told of progress.
        existing: a report of the same pair; the behaviour is put into it, in the place of an older one.
        keep: a file to keep what is done beside, for `resume`.
        resume: go on with what is kept there.

    Raises:
        CkdiffError: the pair, the questions or the settings do not allow it, or `existing` is about other weights.
    """
    from ckdiff.probes.behaviour.behaviour import prepare_behaviour, run
    from ckdiff.weights.making import read_making

    if keep is not None:
        listener = replace(listener or Listener(), cache=Unfinished(keep, resume).cache)
    asked = read_asked(spec)
    spec.settings.check()
    base, unlearned = open_pair(spec)
    task = prepare_behaviour(base, unlearned, asked, spec.settings)
    reference = _open_reference(spec, task)
    found = begin_report(base, unlearned, spec.hash, listener, existing, "sacrebleu", "torch", "transformers")
    making = read_making(unlearned.root, found.provenance.unlearned.digest)
    said = run(task, making, listener, _hash(reference, spec, found, listener))
    digests = found.provenance.base.digest, found.provenance.unlearned.digest
    if digests[0] is not None and digests[0] == digests[1]:
        note = "both checkpoints hold the same weights (one digest): every answer is the same by necessity"
        said = replace(said, notes=(*said.notes, note))
    found = replace(found, behaviour=said)
    return merge_reports(existing, found)


def _hash(reference: NeverKnew | None, spec: BehaveSpec, found: Report, listener: Listener | None) -> NeverKnew | None:
    """The reference with its digest, found to be neither of the pair."""
    if reference is None:
        return None
    digest = digest_of_reference(reference.live.checkpoint, found.provenance, spec.hash, listener)
    return replace(reference, digest=digest)


def _open_reference(spec: BehaveSpec, task: AskJob) -> NeverKnew | None:
    """The model that never knew, or None.

    Raises:
        CkdiffError: it cannot stand beside these two, or nothing is asked that it could be asked.
    """
    from ckdiff.attacks.case import AttackError
    from ckdiff.options import OptionError
    from ckdiff.weights.opening import open_checkpoint

    if not spec.reference:
        if spec.reference_kind is not None:
            raise OptionError("--reference-kind: says how a reference came about; name it with --reference")
        return None
    if task.asked.target is None:
        raise OptionError("--reference: is asked what was to be unlearned; name questions with --questions")
    try:
        return open_never(task, open_checkpoint(spec.reference, spec.adapter_base), spec.reference_kind)
    except AttackError as error:
        raise OptionError(f"--reference: {error}; name one with the base's tokenizer") from error
