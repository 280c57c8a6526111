"""A policy applied to a judged report: passed, failed or inconclusive."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from ckdiff.audit.gate.checks import CHECKS
from ckdiff.audit.gate.measures import hold_measures, read_files
from ckdiff.audit.gate.results import FAILED, NAN, PASSED, UNKNOWN, sets, target_facts, verdict_of
from ckdiff.audit.verdict.rules import RULES
from ckdiff.report.schema.verdict import KNOWLEDGE, LABELS, Gate, GateCheck, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ckdiff.audit.gate.records import Policy
    from ckdiff.report.schema.report import Report


def gate(report: Report, policy: Policy) -> Gate:
    """Hold a report against a policy.

    Where nothing was measured, or a control of the probe failed, that is a check of its own, and it does not pass. The
    same holds where a policy asks about the effect and the questions are about too few facts, or the verdict is
    inconclusive and the policy names no labels.

    Args:
        report: with a verdict.
        policy: what is asked.
    """
    checks = list(_sound(report))
    if any(name in policy.checks for name in ABOUT_ANSWERS):
        checks += _about_answers(report, policy)
    files = read_files(policy) if policy.files is None else policy.files
    checks += hold_measures(report, policy, files)
    for name, wanted in policy.checks.items():
        checks += [
            GateCheck(name, one.outcome, one.text, one.value, one.threshold)
            for one in CHECKS[name].look(report, wanted)
        ]
    notes = tuple(_notes(report, policy))
    return Gate(policy.text, policy.digest, policy.source, worst(checks), tuple(checks), dict(files), notes)


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


def _about_answers(report: Report, policy: Policy) -> Iterator[GateCheck]:
    """Checks that no policy that asks about the effect can do without: a verdict, and facts enough to have one."""
    verdict, facts = verdict_of(report), target_facts(report)
    if verdict.label == "inconclusive" and not LABELS_NAMED & set(policy.checks):
        yield GateCheck("verdict", UNKNOWN, f"the verdict is inconclusive: {verdict.reason}", NAN, NAN)
    if 0 < facts < FEWEST_FACTS:
        words = f"the target questions ask about {facts} facts only: with fewer than {FEWEST_FACTS} nothing can be told"
        yield GateCheck("facts", UNKNOWN, words, float(facts), float(FEWEST_FACTS))


def _notes(report: Report, policy: Policy) -> Iterator[str]:
    """Remarks about the policy itself."""
    if passes_any_verdict(report, policy):
        yield PASSES_ANY
    rows = [row for one in sets(report, "target") for row in one.questions]
    if "require.base_knows" in policy.checks and rows and not any(row.answer_given.strip() for row in rows):
        yield "the questions have no given answers, so that nobody can tell whether the base knows them"


def passes_any_verdict(report: Report, policy: Policy) -> bool:
    """Whether a policy passes whatever the verdict is, an inconclusive one apart.

    Its checks of the verdict are held against every label and every statement about the knowledge.
    """
    looks = [(CHECKS[name], wanted) for name, wanted in policy.checks.items() if name in ABOUT_VERDICT]
    for label, knowledge in product(LABELS, KNOWLEDGE):
        if label != "inconclusive":
            other = replace(report, verdict=replace(verdict_of(report), label=label, knowledge=knowledge))
            if any(one.outcome != PASSED for check, wanted in looks for one in check.look(other, wanted)):
                return False
    return True


PASSES_ANY = "this policy passes whatever the verdict is"


FEWEST_FACTS = int(RULES["questions"].threshold)
"""Of fewer facts no interval means anything."""


LABELS_NAMED = {"fail.labels", "require.labels"}


ABOUT_VERDICT = (*sorted(LABELS_NAMED), "require.knowledge")
"""Checks that look at what the verdict says."""


ABOUT_ANSWERS = (
    *("require.questions", "require.modes", "require.variants", "require.directions", "require.basis"),
    *("require.widest_interval", "require.detectable", "require.labels", "require.knowledge", "require.base_knows"),
    *("require.attacks", "require.tiers", "require.reference", "fail.recovery", "fail.leak"),
    *("fail.labels", "fail.recovered", "fail.scores", "fail.target_bleu", "fail.probability"),
)
"""Checks of a policy that asks about the effect; an inconclusive verdict answers none of them."""


def worst(checks: Iterable[GateCheck]) -> Outcome:
    """The outcome of all: failed before inconclusive before passed; of none inconclusive."""
    found = {check.outcome for check in checks}
    if FAILED in found:
        return FAILED
    return PASSED if found == {PASSED} else UNKNOWN
