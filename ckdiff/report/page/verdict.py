"""The first part of the page: the verdict and why, what a policy says of it, and the rules that were looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.page.parts import Part, cut
from ckdiff.report.words.probe import DIRECTIONS, inconclusive
from ckdiff.report.words.verdict import (
    OUTCOME_WORDS,
    back_cells,
    check_cells,
    finding,
    rule_cells,
    rules_that_do_not,
    rules_that_hold,
    share_cells,
    verdict_facts,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Explanation, GateCheck, RuleResult, Verdict


def show(report: Report) -> Mapping[str, object]:
    """Verdict, gate, rules and shares; without a verdict how to get one."""
    found = report.verdict
    if found is None:
        return {"found": None, "warning": inconclusive(report.probe) if report.probe is not None else ""}
    order = list(DIRECTIONS)
    shares = sorted(
        found.explanations,
        key=lambda row: (not row.decisive, order.index(row.direction) if row.direction in order else len(order)),
    )
    return {
        "found": found,
        "tone": tone(found),
        "knowledge": finding(found),
        "outcome": "" if found.gate is None else OUTCOME_WORDS[found.gate.outcome].lower(),
        "facts": [(name.capitalize(), cut(words, 2000)) for name, words in verdict_facts(found)],
        "checks": [_check(one) for one in found.gate.checks] if found.gate is not None else [],
        "held": [_rule(one) for one in rules_that_hold(found)],
        "other": [_rule(one) for one in rules_that_do_not(found)],
        "shares": [_share(one) for one in shares],
    }


def tone(found: Verdict) -> str:
    """The look of the label, whatever a gate says: where an effect lives is neither good nor bad, but may be open."""
    return "inconclusive" if found.label == "inconclusive" else "none"


def _check(one: GateCheck) -> tuple[object, ...]:
    outcome, name, value, threshold, words = check_cells(one)
    return (one.outcome, outcome.lower()), cut(words), value, threshold, cut(name)


def _rule(rule: RuleResult) -> tuple[str, ...]:
    name, value, threshold, words = rule_cells(rule)
    return cut(name), cut(words), value, threshold


def _share(row: Explanation) -> tuple[object, ...]:
    mode, direction, layers, kl, centred = share_cells(row)
    return cut(mode, 80), kl, (row.kl, row.kl_low, row.kl_high), layers, cut(direction, 80), centred, *back_cells(row)


PARTS = (Part(10, "verdict", "Verdict", "verdict.html", show),)
