"""The first part of the page: the verdict and why, what a policy says of it, and the rules that were looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.page.markup import Safe, cut, facts, folded, items, joined, paragraph, table, tag
from ckdiff.report.page.svg import bar
from ckdiff.report.page.words import outcome_mark
from ckdiff.report.words.numbers import counted
from ckdiff.report.words.probe import DIRECTIONS, inconclusive
from ckdiff.report.words.verdict import (
    SHARES_LEGEND,
    check_cells,
    fired,
    gate_line,
    headline,
    rule_cells,
    ruled_out,
    share_cells,
    verdict_facts,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Explanation, Gate, GateCheck, RuleResult, Verdict

POLICY_LINES = 400
RULE_HEADS = ("rule", "what was found", "value", "threshold")


def judgement(report: Report) -> Safe:
    """Verdict, gate and rules; without a verdict how to get one."""
    if report.verdict is None:
        return _no_verdict(report)
    found = report.verdict
    return joined(_verdict(found), _gate(found.gate), _rules(found), _explanations(found))


def _no_verdict(report: Report) -> Safe:
    warning = inconclusive(report.probe) if report.probe is not None else ""
    return joined(
        tag("p", "No verdict", class_="label none"),
        paragraph(
            "This report holds measurements that nobody has judged yet. ",
            tag("code", "ckdiff audit BASE UNLEARNED"),
            " measures what is missing and gives a verdict; ",
            tag("code", "ckdiff gate REPORT --policy FILE"),
            " judges a report as it is. Then make this page again.",
        ),
        paragraph(tag("strong", "The probe is inconclusive: "), warning, ".") if warning else None,
    )


# --------------------------------------------------------------------------------------------------------- verdict


def _verdict(found: Verdict) -> Safe:
    lacking = tag("a", counted(len(found.unmeasured), "thing"), href="#coverage")
    return joined(
        tag("p", found.label, class_=f"label {tone(found)}"),
        tag("p", headline(found).title, class_="title"),
        facts((name.capitalize(), cut(words, 2000)) for name, words in verdict_facts(found)),
        tag("h3", "What else changed"),
        items(found.side_effects) or paragraph("Nothing was seen, or nothing else was looked at.", class_="muted"),
        paragraph("Not measured: ", lacking, ".") if found.unmeasured else None,
    )


def tone(found: Verdict) -> str:
    """The look of the label: what a gate says decides it, and without one only whether something is unknown."""
    if found.gate is not None:
        return found.gate.outcome
    return "inconclusive" if found.label == "inconclusive" else "none"


# ------------------------------------------------------------------------------------------------------------ gate


def _gate(gate: Gate | None) -> Safe:
    if gate is None:
        way = tag("code", "ckdiff gate REPORT --policy FILE")
        return joined(tag("h3", "Gate"), paragraph("No policy was given, so no gate was judged; ", way, " does it."))
    heads = ("outcome", "asked and found", "found", "policy", "requirement")
    shown = table(
        "What the policy requires, and whether the report meets it", heads, map(_check, gate.checks), (0, 1, 4)
    )
    return joined(
        tag("h3", gate_line(gate).capitalize()),
        shown if gate.checks else None,
        paragraph(
            *("Policy ", tag("code", cut(gate.source)), ", sha256 ", tag("code", cut(gate.digest)), "."), class_="muted"
        ),
        folded("The policy as it was read", _preformatted(gate.policy)),
    )


def _check(one: GateCheck) -> tuple[str, ...]:
    outcome, name, value, threshold, words = check_cells(one)
    return outcome_mark(one.outcome, outcome.lower()), cut(words), value, threshold, tag("code", cut(name))


def _preformatted(text: str) -> Safe:
    lines = [cut(line, 500) for line in text.splitlines()]
    shown = joined(*lines[:POLICY_LINES], "…" if len(lines) > POLICY_LINES else None, by="\n")
    return tag("pre", shown, tabindex=0, role="region", aria_label="Policy")


# ----------------------------------------------------------------------------------------------------------- rules


def _rules(found: Verdict) -> Safe:
    held, other = fired(found), ruled_out(found)
    return joined(
        tag("h3", "Rules that hold"),
        _rule_table("Rules that hold on this report", held) if held else paragraph("None.", class_="muted"),
        folded(f"Rules that do not hold ({len(other)})", _rule_table("Rules that do not hold", other))
        if other
        else None,
    )


def _rule_table(caption: str, rules: Iterable[RuleResult]) -> Safe:
    return table(caption, RULE_HEADS, map(_rule, rules), words=(0, 1), said=False)


def _rule(rule: RuleResult) -> tuple[str, ...]:
    name, value, threshold, words = rule_cells(rule)
    return tag("code", cut(name)), cut(words), value, threshold


def _explanations(found: Verdict) -> Safe:
    if not found.explanations:
        return Safe()
    order = sorted(found.explanations, key=lambda row: (not row.decisive, _place(row.direction)))
    heads = ("put back", "krs_kl", "0 to 1", "layers", "direction", "krs_centred")
    shown = table(
        "How much each part explains", heads, map(_explanation, order), words=(0, 2, 3, 4), folds=False, said=False
    )
    return joined(tag("h3", "What explains how much"), shown, paragraph(SHARES_LEGEND, class_="muted"))


def _place(direction: str) -> int:
    names = list(DIRECTIONS)
    return names.index(direction) if direction in names else len(names)


def _explanation(row: Explanation) -> tuple[str, ...]:
    mode, direction, layers, kl, centred = share_cells(row)
    return cut(mode, 80), kl, bar(row.kl, row.kl_low, row.kl_high), layers, cut(direction, 80), centred
