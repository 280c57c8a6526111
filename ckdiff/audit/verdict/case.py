"""A report under judgement, and what is found of it: `Case(report, Evidence(report))`, then a `Finding`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ckdiff.audit.verdict.rules import RULES
from ckdiff.report.schema.verdict import RuleResult

if TYPE_CHECKING:
    from ckdiff.audit.verdict.evidence import Evidence
    from ckdiff.audit.verdict.location import Place
    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Explanation, Label


@dataclass(frozen=True, slots=True)
class Finding:
    """A label with its reason, its place and what it rests on.

    Attributes:
        mode: what carries the effect, a key of `MODES`, or "".
        name: in words, where it is more than one mode.
        place: where, or None.
        decisive: what it rests on.
    """

    label: Label
    reason: str
    mode: str = ""
    place: Place | None = None
    decisive: tuple[Explanation, ...] = ()
    name: str = ""


@dataclass(slots=True)
class Case:
    """A report under judgement: its evidence, and the rules that were looked at so far.

    Attributes:
        unsure: what is high enough, and not surely so.
        swapped: why the pair may have been given the wrong way round; None where nobody has asked yet.
    """

    report: Report
    evidence: Evidence
    rules: list[RuleResult] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)
    swapped: str | None = None

    def rule(self, name: str, value: float, text: str, threshold: float | None = None) -> bool:
        """Look at a rule, note what was found, and say whether it holds; a threshold that was measured goes first."""
        rule = RULES[name] if threshold is None else replace(RULES[name], threshold=threshold)
        holds = rule.holds(value)
        self.rules.append(RuleResult(name, holds, text, float(value), float(rule.threshold), rule.sense))
        return holds
