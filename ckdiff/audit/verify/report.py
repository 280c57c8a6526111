"""Does a report agree with itself? `check(report)` computes again whatever follows from what is stored.

A report whose numbers and checksums were edited together is caught where one edited number follows from others that
were not: scores from losses, BLEU from answers, rows of components from rows of tensors, digests from shards, the
verdict and the gate from all of them. What follows from nothing stored (the losses, the answers, the drift of a
tensor) can be edited consistently by whoever computes everything again; that only a signature catches.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ckdiff.audit.gate.policy import Policy, PolicyError, parse_policy
from ckdiff.audit.judge import judge_report
from ckdiff.audit.verify.behaviour import check_behaviour, check_same_questions, follow_behaviour
from ckdiff.audit.verify.differences import Differences
from ckdiff.audit.verify.drift import check_comparison, follow_comparison
from ckdiff.audit.verify.probe import check_probe, follow_probe
from ckdiff.audit.verify.walk import compare
from ckdiff.report.words.sections import SECTIONS
from ckdiff.weights.hashing import joint_digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckdiff.report.schema.report import CheckpointRecord, Report


def holds_anything(report: Report) -> bool:
    """Whether there is anything to check at all."""
    return any(getattr(report, name) is not None for name in SECTIONS)


def check(report: Report, policy: Policy | None = None) -> Differences:
    """Everything of a report that does not follow from the rest of it.

    Args:
        report: what is stored.
        policy: what its gate must have been judged by, or None for whatever it stores itself.
    """
    differences = Differences()
    for name, section in CHECKS.items():
        if getattr(report, name) is not None:
            try:
                section(report, differences)
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                # Values that no measurement gives: a text for a number, an array of another shape.
                reason = f"nothing: they cannot be computed with ({type(error).__name__}: {error})"
                differences.add(name, "values", reason)
    if policy is not None:
        gate = None if report.verdict is None else report.verdict.gate
        digest = None if gate is None else gate.digest
        differences.exact("verdict/gate/digest, against the policy given", digest, policy.digest)
    return differences


def _check_provenance(report: Report, differences: Differences) -> None:
    """A checkpoint's digest is that of its shards' lines; without all of them there is none."""
    sides = {side: getattr(report.provenance, side) for side in ("base", "unlearned")}
    for side, record in sides.items():
        names = [shard.name for shard in record.shards]
        differences.exact(f"provenance/{side}: shards, by name", names, sorted(set(names)))
    wanted = {side: {"digest": _digest(record)} for side, record in sides.items()}
    compare("provenance", report.provenance, wanted, differences)


def _digest(record: CheckpointRecord) -> str | None:
    known = [(shard.name, shard.sha256) for shard in record.shards if shard.sha256 is not None]
    return joint_digest(known) if known and len(known) == len(record.shards) else None


def _check_compared(report: Report, differences: Differences) -> None:
    found: Any = report.compare
    compare("compare", found, follow_comparison(found), differences)
    check_comparison(found, differences)
    digest = report.provenance.base.digest
    if digest is not None and digest == report.provenance.unlearned.digest:
        moved = sum(not row.drift.identical for row in found.tensors)
        differences.exact("compare/tensors: tensors that differ, of two checkpoints of one digest", moved, 0)


def _check_probed(report: Report, differences: Differences) -> None:
    found: Any = report.probe
    check_probe(found, differences)
    compare("probe", found, follow_probe(found), differences)


def _check_answered(report: Report, differences: Differences) -> None:
    found: Any = report.behaviour
    check_behaviour(found, differences)
    compare("behaviour", found, follow_behaviour(found), differences)
    if report.probe is not None:
        check_same_questions(report.probe, found, differences)


def _check_judged(report: Report, differences: Differences) -> None:
    """The verdict and the gate are those that the measurements get when they are judged again."""
    stored: Any = report.verdict
    policy = None
    if stored.gate is not None:
        try:
            policy = parse_policy(stored.gate.policy, stored.gate.source)
        except PolicyError as error:
            differences.add("verdict/gate/policy", "a text", f"no policy ({error})")
    again: Any = judge_report(report, policy).verdict
    compare("verdict", stored, again if policy is not None else replace(again, gate=stored.gate), differences)


CHECKS: dict[str, Callable[[Report, Differences], None]] = {
    "provenance": _check_provenance,
    "compare": _check_compared,
    "probe": _check_probed,
    "behaviour": _check_answered,
    "verdict": _check_judged,
}
"""By field of the report, how what it holds is checked."""
