"""An audit: compare, behave, probe and judge one pair, and share what they have in common. `audit_pair(spec)`.

The checkpoints are opened and hashed once, the base answers the target questions once, and what cannot say anything is
left out: nothing is asked of two checkpoints that are the same, and nothing is put back where no question was given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckdiff.calls.ask import read_asked, read_questions_of
from ckdiff.calls.attack import attack_open, is_attacked, open_reference, open_second
from ckdiff.calls.compare import compare_open
from ckdiff.calls.elsewhere import check_elsewhere, look_elsewhere
from ckdiff.calls.expected import expected_seconds
from ckdiff.calls.margins import join_margins
from ckdiff.calls.merge import check_same_weights, combine_probes
from ckdiff.calls.paths import take_paths
from ckdiff.calls.provenance import identity, identity_of, open_pair, provenance_of, versions
from ckdiff.calls.reference import digest_of_reference
from ckdiff.calls.said import doubt_order, find_said, try_never
from ckdiff.calls.specs import AuditSpec
from ckdiff.calls.swept import sweep
from ckdiff.calls.unfinished import Unfinished
from ckdiff.options import UNCHATTED
from ckdiff.progress import Listener
from ckdiff.report.words.sections import MEASURED, SECTIONS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckdiff.calls.attacking import Attacking
    from ckdiff.calls.specs import AttackSpec
    from ckdiff.probes.behaviour.behaviour import AskJob
    from ckdiff.probes.behaviour.beside import NeverKnew
    from ckdiff.probes.preparation import Job
    from ckdiff.probes.probe import Choose
    from ckdiff.report.schema.behaviour import Behaviour
    from ckdiff.report.schema.report import Report
    from ckdiff.weights.checkpoint import Checkpoint


LIBRARIES = ("sacrebleu", "torch", "transformers")
"""Whose versions an audit's numbers rest on, beside NumPy's."""


MADE = frozenset({"compare", "probe", "behaviour"})
"""Sections that every audit makes anew."""


@take_paths(AuditSpec)
def audit_pair(
    spec: AuditSpec,
    listener: Listener | None = None,
    existing: Report | None = None,
    accept: Callable[[str, str], None] | None = None,
    keep: Path | None = None,
    resume: bool = False,
) -> Report:
    """Compare, behave, probe, and a verdict; with a policy its gate.

    Args:
        spec: what to audit, and how.
        listener: told of progress, asked whether to stop.
        existing: a report of the same pair; what asked the same questions in the same way stays, see `keep_older`.
        accept: called with both locations once the headers are read; it raises where the work should not begin.
        keep: a file to keep an unfinished sweep in, and beside it whatever else is done.
        resume: go on with what is kept there, and take from `existing` what measured the same in the same way.

    Raises:
        CkdiffError: the pair, the questions or the settings do not allow it; nothing was measured.
    """
    from ckdiff.audit.judge import judge_report

    listener = listener or Listener()
    kept = Unfinished(keep, resume) if keep is not None and listener.cache is None else None
    listener = listener if kept is None else replace(listener, cache=kept.cache)
    work = replace(_prepare(spec, accept), kept=kept)
    work = replace(work, done=_find_done(work, existing, listener) if resume and spec.hash else None)
    report = _compare(work, spec, listener)
    if existing is not None:
        check_same_weights(existing, report)  # refused before the work, not after it
    work, digest = _open_never(work, spec, report, listener)
    if idle := _reason_to_stop(report):
        listener.remark(idle)
    else:
        report = _ask_and_probe(work, report, listener, keep, resume, existing)
        wanted = _attacks_to_make(work, spec, existing, resume, listener)
        report = _attack_and_trace(work, wanted, report, digest, listener)
        report = look_elsewhere(spec, work.sides, report, kept, listener, work.begin)
    return judge_report(report if existing is None else keep_older(existing, report, listener), spec.policy)


def keep_older(existing: Report, report: Report, listener: Listener) -> Report:
    """The report with what an older one has beside it: only what was asked the same questions can be evidence now.

    Runs of a probe stay where they asked in the same way, and so do sections that no audit makes unasked; what was
    discovered asks nothing.
    """
    if existing.probe is not None and report.probe is not None:
        report = replace(report, probe=combine_probes(existing.probe, report.probe))
    said = () if report.behaviour is None else report.behaviour.answers
    digests = {one.digest for one in said if one.name == "target"}
    for name in MEASURED:
        older = getattr(existing, name)
        if name in MADE or older is None or getattr(report, name) is not None:
            continue
        if not SECTIONS[name].judged or older.settings.get("questions_digest") in digests:
            report = replace(report, **{name: older})
        else:
            listener.remark(f"its earlier {name} was about other questions and is removed")
    return report


@dataclass(frozen=True, slots=True)
class _Work:
    """An audit that was found possible.

    Attributes:
        sides: both checkpoints, open.
        task: the questions to both models.
        job: the probe, or None where no question was given.
        reference: a model that never knew, or None.
        depth: what is asked beside it, or None.
        never: the reference as a model that is asked like the two, or None.
        kept: where what is done is kept, or None.
        done: a report of these very weights, by these very libraries, whose parts need not be measured again; or None.
        parts: of the audit, by the names of their commands.
    """

    sides: tuple[Checkpoint, Checkpoint]
    task: AskJob
    job: Job | None
    reference: Checkpoint | None = None
    depth: Job | None = None
    never: NeverKnew | None = None
    kept: Unfinished | None = None
    done: Report | None = None
    parts: tuple[str, ...] = ()

    def begin(self, part: str, listener: Listener) -> None:
        """Tell which part begins, and how many there are."""
        listener.part(part, self.parts.index(part) + 1, len(self.parts))

    def keep(self, report: Report, listener: Listener) -> None:
        """Keep a report that is not finished, and beside it what was done before and may be looked at again."""
        if self.kept is not None:
            names = () if self.done is None else ("behaviour", "probe")
            older = {name: getattr(self.done, name) for name in names if getattr(report, name) is None}
            self.kept.save(replace(report, **older), listener)


def _prepare(spec: AuditSpec, accept: Callable[[str, str], None] | None) -> _Work:
    """Refuse everything that can be refused, before the first weight is read."""
    from ckdiff.audit.gate.measures import windows_asked
    from ckdiff.probes.behaviour.behaviour import prepare_behaviour
    from ckdiff.probes.preparation import add_windows, prepare

    spec.settings.check()
    behave, probe = spec.behave, spec.probe
    asked, questions = read_asked(behave), None if probe is None else read_questions_of(probe)
    base, unlearned = open_pair(behave)
    if accept is not None:
        accept(base.location, unlearned.location)
    task = prepare_behaviour(base, unlearned, asked, spec.settings)
    job = None if questions is None else prepare(base, unlearned, questions, spec.settings)
    if job is not None:
        add_windows(job, windows_asked(spec.policy))
    reference = check_attacks(spec)
    beside = None if reference is None or questions is None else prepare(base, unlearned, questions, spec.settings)
    wanted = {"compare": True, "behave": True, "probe": job is not None, "attack": spec.attack is not None}
    wanted |= {"depth": beside is not None, "discover": spec.discover}
    check_elsewhere(spec, (base, unlearned))
    parts = tuple(name for name, there in wanted.items() if there)
    return _Work((base, unlearned), task, job, reference, beside, parts=parts)


def check_attacks(spec: AuditSpec) -> Checkpoint | None:
    """Refuse attacks that cannot be made; the reference, its headers read, or None.

    Raises:
        CkdiffError: there is nothing to ask, or a reference that nothing stands beside.
    """
    from ckdiff.options import OptionError, check_options

    attacking = spec.attack
    if attacking is None:
        if spec.margins is not None or spec.reference is not None or spec.reference_kind is not None:
            raise OptionError("--reference: stands beside attacks; name questions with --questions, and no --tier none")
        return None
    check_options(attacking)
    if spec.probe is None:
        raise OptionError("--tier: nothing to ask; name questions about what was to be unlearned with --questions")
    return open_reference(attacking, spec.adapter_base)


def _compare(work: _Work, spec: AuditSpec, listener: Listener) -> Report:
    """A report of both checkpoints' weights, and of what no other basis hides."""
    from ckdiff.report.schema.report import Report
    from ckdiff.weights.geometry import measure_geometry

    listener.expect(lambda: expected_seconds(spec, work.sides, work.task, work.job, work.reference))
    work.begin("compare", listener)
    done, looked = work.done, False
    if done is not None and done.compare is not None:
        listener.remark("compared already: nothing is compared again")
        report, looked = Report(done.provenance, compare=done.compare), not done.complete
    else:
        import torch

        report = compare_open(
            *work.sides,
            spec.hash,
            lambda done, total: listener.progress("comparing", done, total, ""),
            listener.cache,
            torch.get_num_threads(),
        )
    assert report.compare is not None
    if not looked:
        report = replace(report, compare=measure_geometry(*work.sides, report.compare))
    report = replace(report, versions=versions(*LIBRARIES))
    work.keep(report, listener)
    return report


def _find_done(work: _Work, existing: Report | None, listener: Listener) -> Report | None:
    """What an audit that stopped, or a finished one, did before on these very weights by these very libraries."""
    older = (None if work.kept is None else work.kept.read()) or existing
    if older is None or {**older.versions, **versions(*LIBRARIES)} != dict(older.versions):
        return None
    return older if older.provenance == provenance_of(*work.sides, True, listener.cache) else None


def _reason_to_stop(report: Report) -> str:
    """Why two checkpoints are neither asked nor probed once they are compared; empty where they are."""
    if _same(report):
        return "both checkpoints are the same: nothing to ask, nothing to put back"
    broken = _not_finite(report)
    return f"not asked and not probed: tensor {broken!r} holds NaN or infinity" if broken else ""


def _ask_and_probe(
    work: _Work, report: Report, listener: Listener, keep: Path | None, resume: bool, existing: Report | None
) -> Report:
    """The report with what both models say, and with what returns when base states are put back."""
    from ckdiff.probes.assembly import NotFiniteError, NothingToRecoverError

    base, unlearned = work.sides
    swapped = doubt_order(base.root, report.provenance.base.digest)
    for doubt in (swapped, UNCHATTED if UNCHATTED in work.task.notes else ""):
        if doubt:
            listener.remark(doubt)
    try:
        work.begin("behave", listener)
        said = _behaviour(work, report, listener)
        if swapped and swapped not in said.notes:
            said = replace(said, notes=(*said.notes, swapped))
        report = replace(report, behaviour=said)
        work.keep(report, listener)
        if work.job is not None:
            work.begin("probe", listener)
            _add_subsets(work.job, report)
            kept = None if keep is None else (keep, identity(base, unlearned, report.provenance))
            rows = () if report.compare is None else report.compare.alignment
            work.job.suspects = frozenset(row.layer for row in rows)
            choose = _chooser(report, existing)
            done = None if work.done is None else work.done.probe
            report = replace(report, probe=sweep(work.job, said, listener, kept, resume, choose, done))
            work.keep(report, listener)
    except (NothingToRecoverError, NotFiniteError) as error:
        listener.remark(f"not probed: {error}")
    return report


def _depth(work: _Work, attacking: Attacking, report: Report, digest: str, listener: Listener) -> Report:
    """The report with how deep it goes beside a reference; as it was without one, or where its shape is another."""
    from ckdiff.probes.assembly import NotFiniteError
    from ckdiff.probes.depth.section import Beside, DepthError, Keeping, open_reference, run

    job, reference = work.depth, work.reference
    if job is None or reference is None or report.attack is None:
        return report
    work.begin("depth", listener)
    weights = f"{identity(*work.sides, report.provenance)} {digest or identity_of(reference)}"
    keeping = None if work.kept is None else Keeping(work.kept.place("depth.partial"), weights, work.kept.resume)
    try:
        live, notes = open_reference(job, reference)
        job.notes += notes
        beside = Beside(reference, attacking.reference_kind or "", digest)
        return replace(report, depth=run(job, live, beside, listener, keeping=keeping))
    except (DepthError, NotFiniteError) as error:
        listener.remark(f"no depth was measured: {error}")
        return report


def _attack_and_trace(
    work: _Work, attacking: Attacking | None, report: Report, digest: str, listener: Listener
) -> Report:
    """The report with what comes back under attack, and how deep the unlearning goes beside a reference."""
    if attacking is None:
        return report
    second = open_second(attacking, work.task, report.provenance, digest)
    report = _attack(work, attacking, report, digest, listener)
    if second is not None and report.attack is not None and report.attack.reference:
        report = replace(report, attack=join_margins(report.attack, second))
    return _depth(work, attacking, report, digest, listener)


def _attacks_to_make(
    work: _Work, spec: AuditSpec, existing: Report | None, resume: bool, listener: Listener
) -> AttackSpec | None:
    """The attacks of a spec; None where nobody named them, and a report has them already."""
    older, named = None if existing is None else existing.attack, spec.tiers is not None or spec.reference is not None
    if spec.attack is None or older is None or named or not is_attacked(work.task, spec.attack, older, resume):
        return spec.attack
    listener.remark("attacked already: nothing is attacked again; name tiers with --tier to attack anew")
    return None


def _attack(work: _Work, attacking: Attacking, report: Report, digest: str, listener: Listener) -> Report:
    """The report with what comes back under attack, looked for in the answers that the base has given already."""
    from ckdiff.attacks.battery import Keeping
    from ckdiff.attacks.case import AttackError
    from ckdiff.probes.assembly import NotFiniteError

    work.begin("attack", listener)
    kept, weights = work.kept, identity(*work.sides, report.provenance)
    keeping = None if kept is None else Keeping(kept.place("attack.json"), weights, kept.resume)
    said = report.behaviour
    target = next((one for one in said.answers if one.name == "target"), None) if said is not None else None
    known = None if target is None else [row.answer_base_ids for row in target.questions]
    try:
        found = attack_open(work.task, attacking, work.reference, listener, known, keeping, digest)
        return replace(report, attack=found)
    except (AttackError, NotFiniteError) as error:
        listener.remark(f"not attacked: {error}")
        return report


def _add_subsets(job: Job, report: Report) -> None:
    """Put several of the changed kinds of weights back together, where the whole model is put back at all.

    Of two edits each may be enough to take the answers away: then neither's weights bring anything back alone. Kinds
    that were not asked for are not put back together either.
    """
    from ckdiff.audit.verdict.evidence import Evidence
    from ckdiff.modes import VARIANTS, kinds_of, subsets_of
    from ckdiff.probes.preparation import add_modes

    changed = Evidence(report).kinds_changed()
    if any(VARIANTS[name].whole for name in job.settings.variants):
        asked = {*job.settings.modes}
        add_modes(job, [name for name in subsets_of(changed) if asked.issuperset(kinds_of(name))])


def _same(report: Report) -> bool:
    """Whether every stored value and setting is the same."""
    found = report.compare
    assert found is not None
    settings = found.config_changes or found.config_uncompared
    unmatched = found.only_in_base or found.only_in_unlearned or found.shape_mismatch or settings
    return bool(found.tensors) and not unmatched and all(row.drift.identical for row in found.tensors)


def _not_finite(report: Report) -> str:
    """The first tensor of which no model can be made, or nothing."""
    rows = () if report.compare is None else report.compare.tensors
    return next((row.name for row in rows if row.drift.nonfinite_base or row.drift.nonfinite_unlearned), "")


def _behaviour(work: _Work, report: Report, listener: Listener) -> Behaviour:
    """What both models say, and the reference beside them: said already, or now."""
    from ckdiff.probes.behaviour.behaviour import run
    from ckdiff.weights.making import read_making

    if said := find_said(work.task, work.never, None if work.done is None else work.done.behaviour):
        listener.remark("asked already: nothing is asked again")
        return said
    making = read_making(work.sides[1].root, report.provenance.unlearned.digest)
    return run(work.task, making, listener, work.never)


def _open_never(work: _Work, spec: AuditSpec, report: Report, listener: Listener) -> tuple[_Work, str]:
    """The reference, to be asked beside the two where its ids mean the same, and its digest."""
    digest = digest_of_reference(work.reference, report.provenance, spec.hash, listener)
    never = try_never(work.task, work.reference, spec.reference_kind, digest, listener)
    return replace(work, never=never), digest


def _chooser(report: Report, existing: Report | None) -> Choose:
    """Gives the modes whose windows a verdict would ask for, of a report that has so much of a probe."""
    from ckdiff.audit.verdict.needed import next_modes

    older = None if existing is None else existing.probe
    return lambda probe: next_modes(replace(report, probe=combine_probes(older, probe)))
