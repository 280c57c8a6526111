"""The margins of `gone` from a report of a second model that never knew: `read_second(place)`, then `join_margins`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ckdiff.scoring.margins import MarginError, margin_of_depth, margins_of

if TYPE_CHECKING:
    from ckdiff.report.schema.attack import AttackReport
    from ckdiff.report.schema.depth import DepthReport
    from ckdiff.report.schema.report import Provenance, Report

MADE_BY = "make it with `ckdiff audit BASE SECOND --reference MODEL --tier 0,1,2`"


def read_second(place: str) -> Report:
    """A report of (base, a second model that never knew) beside the reference.

    Raises:
        CkdiffError: it cannot be read, was made without a reference, or its two models are too alike.
    """
    from ckdiff.report.hdf5.file import read_report

    report = read_report(Path(place))
    if report.attack is None or not report.attack.reference:
        raise MarginError(f"--margins: {place} holds no attacks beside a model that never knew; {MADE_BY}")
    margins_of(report.attack, report.depth)
    return report


def read_second_depth(place: str, compat: bool) -> Report:
    """A report of the depth of (base, a second model that never knew) beside the reference.

    Raises:
        CkdiffError: it cannot be read, or holds no depth that says anything.
    """
    from ckdiff.report.hdf5.file import read_report

    report = read_report(Path(place))
    if report.depth is None:
        raise MarginError(
            f"--margins: {place} holds no depth; make it with `ckdiff depth BASE SECOND --reference MODEL`"
        )
    if report.depth.compat != compat:
        raise MarginError("--margins: one of the two depths is --compat and the other is not; measure both alike")
    margin_of_depth(report.depth)
    return report


def check_second(
    second: Report,
    provenance: Provenance,
    reference_digest: str,
    questions: str,
    section: Literal["attack", "depth"] = "attack",
) -> None:
    """Refuse a report about another base or reference, about the unlearned model itself, or about other questions.

    Raises:
        MarginError: and which of them.
    """
    theirs, attack = second.provenance, second.attack if section == "attack" else second.depth
    assert attack is not None
    if not (reference_digest and attack.reference_digest and provenance.base.digest and theirs.unlearned.digest):
        raise MarginError("--margins: without sha256 nobody knows whose margins they are; leave out --no-hash")
    if theirs.base.digest != provenance.base.digest:
        raise MarginError(f"--margins: its base is {theirs.base.location}, of other weights; {MADE_BY}")
    if attack.reference_digest != reference_digest:
        raise MarginError(f"--margins: it stands beside {attack.reference}, another reference; {MADE_BY}")
    if attack.settings.get("questions_digest") != questions:
        raise MarginError("--margins: it is about other questions; ask the same ones")
    for name, side in (("unlearned model", provenance.unlearned), ("base", provenance.base)):
        if theirs.unlearned.digest == side.digest:
            raise MarginError(f"--margins: it is about the {name} itself, and not about a model that never knew")
    if theirs.unlearned.digest == reference_digest:
        raise MarginError("--margins: its second model is the reference itself; take one of another seed")


def join_depth(found: DepthReport, second: Report) -> DepthReport:
    """The depth with the margin of a second model that never knew, which `check_second` has found to be one."""
    assert second.depth is not None
    model = second.provenance.unlearned
    return replace(found, second=model.location, second_digest=model.digest or "", margin=margin_of_depth(second.depth))


def join_margins(found: AttackReport, second: Report) -> AttackReport:
    """The attacks with the margins of a second model that never knew, which `check_second` has found to be one."""
    attack = second.attack
    assert attack is not None
    margins = margins_of(attack, second.depth)
    model = second.provenance.unlearned
    measured = {f"margin_{name}": value for name, value in margins._asdict().items()}
    return replace(found, second=model.location, second_digest=model.digest or "", **measured)
