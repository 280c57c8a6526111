"""`attack`: does it come back, without the base's help?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckdiff.calls.ask import read_asked
from ckdiff.calls.margins import check_second, join_margins, read_second
from ckdiff.calls.merge import merge_reports
from ckdiff.calls.paths import take_paths
from ckdiff.calls.provenance import begin_report, check_existing, identity, open_pair
from ckdiff.calls.reference import digest_of_reference
from ckdiff.calls.specs import AttackSpec
from ckdiff.options import check_options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ckdiff.attacks.battery import Battery, Keeping
    from ckdiff.attacks.case import Options
    from ckdiff.calls.attacking import Attacking
    from ckdiff.probes.behaviour.behaviour import AskJob
    from ckdiff.progress import Listener
    from ckdiff.report.schema.attack import AttackReport
    from ckdiff.report.schema.report import Provenance, Report
    from ckdiff.weights.checkpoint import Checkpoint


@take_paths(AttackSpec)
def attack(
    spec: AttackSpec,
    listener: Listener | None = None,
    existing: Report | None = None,
    keep: Path | None = None,
    resume: bool = False,
) -> Report:
    """A report of attacks on the unlearned model: which answers come back, beside the base and a reference.

    Args:
        spec: which attacks, on which pair, with which questions.
        listener: told of progress.
        existing: a report of the same pair; the attacks are put into it, in the place of older ones.
        keep: a file to keep in what is done, attack by attack and model by model.
        resume: go on with what is kept there.

    Raises:
        CkdiffError: the pair, the questions, the reference or the settings do not allow it.
    """
    from ckdiff.attacks.battery import Keeping

    task, reference = prepare_attack(spec)
    base, unlearned = task.job.pair.base.checkpoint, task.job.pair.unlearned.checkpoint
    found = begin_report(base, unlearned, spec.hash, listener, existing, "torch", "transformers")
    keeping = Keeping(keep, "" if keep is None else identity(base, unlearned, found.provenance), resume)
    digest = digest_of_reference(reference, found.provenance, spec.hash, listener)
    second = open_second(spec, task, found.provenance, digest)
    attacked = attack_open(task, spec, reference, listener, keeping=keeping, digest=digest)
    if second is not None and attacked.reference:
        attacked = join_margins(attacked, second)
    found = replace(found, attack=attacked)
    return merge_reports(existing, found)


def prepare_attack(spec: AttackSpec) -> tuple[AskJob, Checkpoint | None]:
    """Everything that can be refused, refused before a weight is read.

    Raises:
        CkdiffError: the pair, the questions, the reference or the settings do not allow it.
    """
    from ckdiff.attacks.case import AttackError
    from ckdiff.probes.behaviour.behaviour import prepare_behaviour
    from ckdiff.questions.streams import RecordsError

    check_options(spec, AttackError)
    behave = spec.behave
    if behave.questions is None and not behave.asked:
        raise RecordsError("attack: nothing to ask; name questions about what was to be unlearned with --questions")
    asked = read_asked(behave)
    spec.settings.check()
    base, unlearned = open_pair(behave)
    return prepare_behaviour(base, unlearned, asked, spec.settings), open_reference(spec, spec.adapter_base)


def open_reference(spec: Attacking, adapter_base: str | None) -> Checkpoint | None:
    """The model that never knew, its headers read, or None.

    Raises:
        CkdiffError: it cannot be read.
    """
    from ckdiff.attacks.case import AttackError
    from ckdiff.weights.opening import open_checkpoint

    if spec.reference is None and spec.reference_kind is not None:
        raise AttackError("--reference-kind: says how a reference came about; name it with --reference")
    if spec.margins is not None:
        if spec.reference is None:
            raise AttackError("--margins: is that of two models that never knew; name the other one with --reference")
        read_second(spec.margins)
    return None if spec.reference is None else open_checkpoint(spec.reference, adapter_base)


def open_second(spec: Attacking, task: AskJob, provenance: Provenance, digest: str) -> Report | None:
    """The report of a second model that never knew, found to stand beside the same reference; None without one.

    Raises:
        CkdiffError: it cannot be read, or is about other models.
    """
    if spec.margins is None:
        return None
    second = read_second(spec.margins)
    target = task.asked.target
    check_second(second, provenance, digest, "" if target is None else target.digest)
    return second


def attack_open(
    task: AskJob,
    spec: Attacking,
    reference: Checkpoint | None = None,
    listener: Listener | None = None,
    known: Sequence[Sequence[int]] | None = None,
    keeping: Keeping | None = None,
    digest: str = "",
) -> AttackReport:
    """The attacks of a spec on a pair that is open, as the section of a report.

    Args:
        task: what both models are asked, target questions among it.
        spec: which attacks.
        reference: a model that never knew, or None.
        listener: told of progress.
        known: the base's greedy answers to the target questions, where somebody has them already.
        keeping: where what is done is kept, if anywhere.
        digest: of the reference's weight files, or "".

    Raises:
        CkdiffError: the base answers nothing, or the reference does not fit the pair.
    """
    from ckdiff.attacks.battery import run

    return run(task, battery_of(spec, reference, digest), listener, known, keeping)


def is_attacked(task: AskJob, wanted: Attacking, older: AttackReport, resume: bool) -> bool:
    """Whether these attacks were made of the same questions in the same way, and more, or this is to go on with them.

    Args:
        task: what both models are asked.
        wanted: the attacks.
        older: those of a report of the same weights.
        resume: go on with what is there.
    """
    from ckdiff.attacks.battery import settings_of

    same, asked = settings_of(task, battery_of(wanted)), {*wanted.chosen}
    made = {*older.settings.get("attacks", "").split(",")}
    alike = all(older.settings.get(name) == same[name] for name in {*same} - {"attacks"})
    return asked <= made and alike and (bool(older.reference) or asked < made or resume)


def battery_of(spec: Attacking, reference: Checkpoint | None = None, digest: str = "") -> Battery:
    """The attacks of a spec, beside a reference with this digest over its weight files."""
    from ckdiff.attacks.battery import Battery

    return Battery(spec.chosen, reference, spec.reference_kind or "", digest, options_of(spec))


def options_of(spec: Attacking) -> Options:
    """An attacker's choices, taken from a spec."""
    from ckdiff.attacks.case import Options

    return Options(
        samples=spec.samples,
        seed=spec.seed,
        training=spec.training,
        arms=spec.arms,
        rates=spec.rates or (),
        steps=spec.train_steps,
        folds=spec.folds,
        seeds=spec.train_seeds,
    )


@dataclass(frozen=True, slots=True)
class AttackOutline:
    """The cost of attacks: texts through a model by name, bytes of memory, seconds by tier, about, and notes."""

    attacks: dict[str, int]
    memory: int
    free: int
    stream: bool
    tiers: dict[int, float]
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Of all tiers."""
        return sum(self.tiers.values())


def outline(spec: AttackSpec, existing: Report | None = None) -> AttackOutline:
    """The cost of the attacks of a spec, without a weight being read.

    Raises:
        CkdiffError: as `attack`.
    """
    from ckdiff.attacks.cost import estimate

    check_existing(spec, existing)
    task, reference = prepare_attack(spec)
    # Without choices there is nothing to choose from, and that attack says so in a moment.
    idle = {"choice"} if task.asked.choices is None else set[str]()
    chosen = [name for name in spec.chosen if name not in idle] or spec.chosen
    return AttackOutline(*estimate(task, chosen, options_of(spec), reference is not None), tuple(task.notes))
