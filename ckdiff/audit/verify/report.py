"""Does a report agree with itself? `check(report)` computes again whatever follows from what is stored.

A report whose numbers and checksums were edited together is caught where one edited number follows from others that
were not: scores from losses, BLEU from answers, rows of components from rows of tensors, digests from shards, the
verdict and the gate from all of them. What follows from nothing stored (the losses, the answers, the drift of a
tensor) can be edited consistently by whoever computes everything again; that only a signature catches.
"""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.audit.gate.measures import find_deviations, read_files
from ckdiff.audit.gate.policy import PolicyError, parse_policy
from ckdiff.audit.gate.results import NAN, UNKNOWN
from ckdiff.audit.judge import judge_report
from ckdiff.audit.verify.attack import check_attack
from ckdiff.audit.verify.behaviour import check_behaviour, check_same_questions
from ckdiff.audit.verify.depth import check_depth
from ckdiff.audit.verify.differences import CLOSE, Differences, near
from ckdiff.audit.verify.discovery import check_discovery
from ckdiff.audit.verify.drift import check_drift
from ckdiff.audit.verify.probe import check_probe
from ckdiff.report.hdf5.columns import encoded
from ckdiff.report.schema.verdict import GateCheck
from ckdiff.report.words.numbers import with_interval
from ckdiff.weights.hashing import joint_digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckdiff.audit.gate.records import Policy
    from ckdiff.report.schema.report import CheckpointRecord, Report
    from ckdiff.report.schema.verdict import Gate, Verdict


SECTIONS = ("compare", "probe", "behaviour", "attack", "depth", "discovery", "verdict")


UNCOMPUTABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What values raise that no measurement gives: a text for a number, an array of another shape."""


MEASURED_SINCE = 2
"""Gates of older editions of a verdict did not look at a policy's `[measure]`; what is said of it stands beside."""


OTHER_POLICY = "verdict/gate/digest, against the policy given"
"""Where a report differs that was judged by another policy."""


def holds_anything(report: Report) -> bool:
    """Whether there is anything to check at all."""
    return any(getattr(report, name) is not None for name in SECTIONS)


def check(report: Report, policy: Policy | None = None) -> Differences:
    """Everything of a report that does not follow from the rest of it.

    Args:
        report: what is stored.
        policy: what its gate must have been judged by, or None for whatever it stores itself.
    """
    found = Differences()
    # Numbers of a file may be so large that nothing finite follows from them; then it is not what is stored.
    with np.errstate(all="ignore"):
        for name, section in CHECKS.items():
            try:
                section(report, found)
            except UNCOMPUTABLE as error:
                found.add(name, "values", f"nothing: they cannot be computed with ({type(error).__name__}: {error})")
    if policy is not None:
        _check_policy(report, policy, found)
    return found


def _provenance(report: Report, found: Differences) -> None:
    for side in ("base", "unlearned"):
        _check_digest(side, getattr(report.provenance, side), found)


def _check_compare(report: Report, found: Differences) -> None:
    if report.compare is not None:
        check_drift(report.compare, found)
        _check_sameness(report, found)


def _check_probe(report: Report, found: Differences) -> None:
    if report.probe is not None:
        check_probe(report.probe, found)


def _check_behaviour(report: Report, found: Differences) -> None:
    if report.behaviour is not None:
        check_behaviour(report.behaviour, found)
    if report.probe is not None and report.behaviour is not None:
        check_same_questions(report.probe, report.behaviour, found)


def _check_attack(report: Report, found: Differences) -> None:
    if report.attack is not None:
        check_attack(report.attack, found)


def _check_depth(report: Report, found: Differences) -> None:
    if report.depth is not None:
        check_depth(report.depth, found)


def _check_discovery(report: Report, found: Differences) -> None:
    if report.discovery is not None:
        check_discovery(report.discovery, found)


def _check_digest(side: str, record: CheckpointRecord, found: Differences) -> None:
    """A checkpoint's digest is that of its shards' lines; without all of them there is none."""
    where = f"provenance/{side}"
    names = [shard.name for shard in record.shards]
    found.exact(f"{where}: shards, by name", names, sorted(set(names)))
    settings = [one.name for one in record.settings]
    found.exact(f"{where}: settings, by name", settings, sorted(set(settings)))
    known = [(shard.name, shard.sha256) for shard in record.shards if shard.sha256 is not None]
    whole = bool(known) and len(known) == len(record.shards)
    found.exact(f"{where}/digest", record.digest, joint_digest(known) if whole else None)


def _check_sameness(report: Report, found: Differences) -> None:
    """Files of one digest hold the same tensors."""
    digest, other = report.provenance.base.digest, report.provenance.unlearned.digest
    if digest is None or digest != other or report.compare is None:
        return
    moved = sum(not row.drift.identical for row in report.compare.tensors)
    found.exact("compare/tensors: tensors that differ, of two checkpoints of one digest", moved, 0)


def _check_verdict(report: Report, found: Differences) -> None:
    """The verdict and the gate are those that the measurements get when they are judged again."""
    stored = report.verdict
    if stored is None:
        return
    policy = None if stored.gate is None else _stored_policy(stored.gate, found)
    if policy is not None and stored.edition < MEASURED_SINCE:
        policy = replace(policy, measure={})
    again = judge_report(report, policy).verdict
    assert again is not None
    skip, where = () if policy is not None else ("gate",), "verdict"
    if stored.edition != again.edition:
        # Other rules say it in other words, and look at other things: what they come to must be the same.
        _check_older_band(report, stored, again, found)
        where = f"verdict/by edition {stored.edition} of the rules, now {again.edition}"
        stored, again = _outcome(stored), _outcome(again)
    _compare(where, stored, again, found, skip)


def _outcome(found: Verdict) -> Verdict:
    """A verdict without its words: the label, what carries the effect and how far, and the gate's outcome.

    Its band is left out as well: that of older rules was of one mode alone (`_check_older_band`).
    """
    gate = None if found.gate is None else replace(found.gate, checks=(), notes=())
    plain = replace(found, reason="", rules=(), explanations=(), side_effects=(), unmeasured=(), gate=gate)
    return replace(
        plain,
        knowledge="unknown",
        knowledge_reason="",
        lacking=(),
        edition=0,
        explained_low=math.nan,
        explained_high=math.nan,
    )


def _check_older_band(report: Report, stored: Verdict, again: Verdict, found: Differences) -> None:
    """The band that an older verdict rests on is today's, or, of the oldest, one of the probe's own at that score."""
    said, now = ((one.explained, one.explained_low, one.explained_high) for one in (stored, again))
    if np.allclose(said, now, rtol=0, atol=1e-9, equal_nan=True):
        return
    curves = [run.krs_kl for run in (() if report.probe is None else report.probe.runs) if run.direction == "restore"]
    bands = [np.stack([one.score, one.band_low, one.band_high], axis=-1) for one in curves]
    held = any(np.isclose(band, said, rtol=0, atol=1e-9, equal_nan=True).all(axis=-1).any() for band in bands)
    if not held and not np.isnan(said).all():
        found.add("verdict/explained", with_interval(*said, "{:.4f}".format), "no band of the probe")


def _stored_policy(gate: Gate, found: Differences) -> Policy | None:
    try:
        policy = parse_policy(gate.policy, gate.source, files=gate.files)
    except PolicyError as error:
        found.add("verdict/gate/policy", "a text", f"no policy ({error})")
        return None
    found.exact("verdict/gate/digest", gate.digest, policy.digest)
    return policy


def _check_policy(report: Report, policy: Policy, found: Differences) -> None:
    """The gate was judged by this policy and by no other, and its files held what they hold."""
    gate = None if report.verdict is None else report.verdict.gate
    found.exact(OTHER_POLICY, None if gate is None else gate.digest, policy.digest)
    for key, digest in read_files(policy).items():
        if gate is not None and key in gate.files:
            found.exact(f"verdict/gate/files/{key}, against the policy given", gate.files[key], digest)


def measures_not_met(report: Report, policy: Policy | None = None) -> tuple[GateCheck, ...]:
    """The checks of `[measure]` that a report does not meet: of a policy, or else of that of its own gate."""
    gate = None if report.verdict is None else report.verdict.gate
    if policy is None and gate is not None:
        policy = _stored_policy(gate, Differences())
    if policy is None:
        return ()
    files = read_files(policy) if policy.files is None else policy.files
    try:
        return find_deviations(report, policy, {**(gate.files if gate is not None else {}), **files})
    except UNCOMPUTABLE as error:
        words = f"nobody can tell how it was measured: its scores cannot be computed with ({type(error).__name__})"
        return (GateCheck("measure.windows", UNKNOWN, words, NAN, NAN),)


def _compare(where: str, stored: Any, again: Any, found: Differences, skip: tuple[str, ...] = ()) -> None:
    """Two records, field by field, all the way down."""
    if is_dataclass(stored) and type(stored) is type(again):
        for one in fields(stored):
            if one.name not in skip:
                _compare(f"{where}/{one.name}", getattr(stored, one.name), getattr(again, one.name), found)
    elif isinstance(stored, tuple) and isinstance(again, tuple):
        if len(stored) != len(again):
            found.add(f"{where}: how many", len(stored), len(again))
        for number, (one, other) in enumerate(zip(stored, again, strict=False)):
            _compare(f"{where}/{number}{_name_of(one)}", one, other, found)
    elif isinstance(stored, float) and isinstance(again, float | int):
        found.close(where, stored, float(again), CLOSE, CLOSE)
    elif isinstance(stored, str) and isinstance(again, str):
        # A report keeps what UTF-8 cannot hold as an escape.
        found.exact(where, stored, encoded(again).decode())
    else:
        found.exact(where, stored, again)


def _name_of(row: Any) -> str:
    name = getattr(row, "name", "")
    return f" ({name})" if isinstance(name, str) and name else ""


def compare_trees(where: str, stored: Any, wanted: Any, found: Differences) -> None:
    """Two trees of plain data, such as a statement that was signed and the one that the report makes.

    Floats are held to `CLOSE`, everything else must be equal.
    """
    if isinstance(stored, dict) and isinstance(wanted, dict):
        for name in dict.fromkeys((*wanted, *stored)):
            if name not in stored or name not in wanted:
                found.add(f"{where}.{name}", _brief(stored.get(name)), _brief(wanted.get(name)))
            else:
                compare_trees(f"{where}.{name}", stored[name], wanted[name], found)
    elif isinstance(stored, list) and isinstance(wanted, list):
        if len(stored) != len(wanted):
            found.add(f"{where}: how many", len(stored), len(wanted))
        for number, (one, other) in enumerate(zip(stored, wanted, strict=False)):
            compare_trees(f"{where}[{number}]", one, other, found)
    elif _number(stored) and _number(wanted):
        found.compared += 1
        if not near(_float(stored), _float(wanted)):
            found.add(where, stored, wanted)
    else:
        found.compared += 1
        if type(stored) is not type(wanted) or stored != wanted:
            found.add(where, _brief(stored), _brief(wanted))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _brief(value: Any) -> Any:
    return f"{len(value)} values" if isinstance(value, dict | list) else value


CHECKS: dict[str, Callable[[Report, Differences], None]] = {
    "provenance": _provenance,
    "compare": _check_compare,
    "probe": _check_probe,
    "behaviour": _check_behaviour,
    "attack": _check_attack,
    "depth": _check_depth,
    "discovery": _check_discovery,
    "verdict": _check_verdict,
}
"""What is looked at, section by section."""
