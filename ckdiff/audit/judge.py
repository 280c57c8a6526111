"""A report with its verdict, and with what a policy says of it: `judge_report(report, policy)`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ckdiff.audit.verdict.verdict import judge

if TYPE_CHECKING:
    from ckdiff.audit.gate.records import Policy
    from ckdiff.report.schema.report import Report


def judge_report(report: Report, policy: Policy | None = None) -> Report:
    """The report with a verdict in the place of any older one, and with a gate where there is a policy.

    Nothing but what was measured is looked at: the same measurements and policy always give the same verdict.
    """
    verdict = judge(report)
    if policy is not None:
        from ckdiff.audit.gate.gate import gate

        verdict = replace(verdict, gate=gate(replace(report, verdict=verdict), policy))
    return replace(report, verdict=verdict)
