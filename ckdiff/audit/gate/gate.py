"""A policy applied to a judged report: passed, failed or inconclusive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.audit.gate.checks import CHECKS
from ckdiff.audit.gate.measures import hold_measures, read_files
from ckdiff.audit.gate.results import FAILED, NAN, PASSED, UNKNOWN, verdict_of
from ckdiff.report.schema.verdict import Gate, GateCheck, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ckdiff.audit.gate.policy import Policy
    from ckdiff.report.schema.report import Report


def gate(report: Report, policy: Policy) -> Gate:
    """Hold a report against a policy.

    Where nothing was measured, a control of the probe failed, or the policy asks about the effect without `fail.labels`
    and the verdict is inconclusive, that is a check of its own, and it does not pass.

    Args:
        report: with a verdict.
        policy: what is asked.
    """
    checks = list(_sound(report))
    asks = any(name in policy.checks for name in ABOUT_ANSWERS)
    if asks and "fail.labels" not in policy.checks and verdict_of(report).label == "inconclusive":
        checks.append(
            GateCheck("verdict", UNKNOWN, f"the verdict is inconclusive: {verdict_of(report).reason}", NAN, NAN)
        )
    files = read_files(policy) if policy.files is None else policy.files
    checks += hold_measures(report, policy, files)
    for name, wanted in policy.checks.items():
        checks += [
            GateCheck(name, one.outcome, one.text, one.value, one.threshold)
            for one in CHECKS[name].look(report, wanted)
        ]
    return Gate(policy.text, policy.digest, policy.source, worst(checks), tuple(checks), dict(files))


def _sound(report: Report) -> Iterator[GateCheck]:
    """Checks that no policy can do without: something was measured, and by an instrument whose controls held."""
    compared = report.compare is not None and bool(report.compare.tensors)
    said = report.behaviour is not None and bool(
        report.behaviour.answers or report.behaviour.choices or report.behaviour.neutral
    )
    if not compared and not said and report.probe is None:
        yield GateCheck("measured", UNKNOWN, "nothing was measured", NAN, NAN)
    if report.probe is not None:
        failed = sum(not control.passed for control in report.probe.controls)
        if failed or not report.probe.controls:
            words = f"{failed} controls of the probe failed" if failed else "no control of the probe was made"
            yield GateCheck("controls", UNKNOWN, f"{words}: its scores are not to be trusted", float(failed), 0.0)


ABOUT_ANSWERS = (
    *("require.questions", "require.modes", "require.variants", "require.directions", "require.basis"),
    *("require.widest_interval", "require.detectable", "fail.recovered", "fail.scores", "fail.target_bleu"),
)
"""Checks of a policy that asks about the effect; an inconclusive verdict answers none of them."""


def worst(checks: Iterable[GateCheck]) -> Outcome:
    """The outcome of all: failed before inconclusive before passed; of none inconclusive."""
    found = {check.outcome for check in checks}
    if FAILED in found:
        return FAILED
    return PASSED if found == {PASSED} else UNKNOWN
