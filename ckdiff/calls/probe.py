"""`probe`: base states are put back, and what returns is scored."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ckdiff.calls.ask import read_questions_of
from ckdiff.calls.merge import merge_reports
from ckdiff.calls.paths import take_paths
from ckdiff.calls.provenance import begin_report, check_existing, identity, open_pair
from ckdiff.calls.specs import ProbeSpec
from ckdiff.scoring.settings import EVERY

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.probes.outline import ProbeOutline
    from ckdiff.progress import Listener
    from ckdiff.report.schema.report import Report


@take_paths(ProbeSpec)
def probe(
    spec: ProbeSpec,
    listener: Listener | None = None,
    existing: Report | None = None,
    keep: Path | None = None,
    resume: bool = False,
) -> Report:
    """A report of restoration probes: where the effect of an unlearning lives, on live activations.

    Args:
        spec: what to probe.
        listener: told of progress, asked whether to stop.
        existing: a report of the same pair; the probe is put into it.
        keep: a file to keep an unfinished sweep in.
        resume: go on with what is kept there.

    Raises:
        CkdiffError: the pair, the questions or the settings do not allow a probe, or `existing` is about other weights.
        NothingToRecoverError: on these questions the two models do not differ.
    """
    from ckdiff.probes.preparation import prepare
    from ckdiff.probes.probe import run

    # Only an audit has a verdict, which says whose windows are needed.
    spec = replace(spec, settings=replace(spec.settings, windows=EVERY))
    questions = read_questions_of(spec)
    spec.settings.check()
    base, unlearned = open_pair(spec)
    # Everything that can be refused is refused before files are hashed, which takes a while.
    job = prepare(base, unlearned, questions, spec.settings)
    found = begin_report(base, unlearned, spec.hash, listener, existing, "torch", "transformers")
    kept = None if keep is None else (keep, identity(base, unlearned, found.provenance))
    result = run(job, listener, kept, resume)
    return merge_reports(existing, replace(found, probe=result))


def outline(spec: ProbeSpec, existing: Report | None = None) -> ProbeOutline:
    """An outline of a probe: its runs, the memory it wants, about how long it takes; no weights are read."""
    from ckdiff.probes.outline import outline as look

    check_existing(spec, existing)
    return look(*open_pair(spec), read_questions_of(spec), spec.settings)
