"""Verdict and gate, or the gates of a campaign, as JUnit XML for pages that show test results: `to_junit(report)`.

One suite a report, and in it two cases for the verdict (class `ckdiff.verdict`: label and knowledge) and one for every
check of the gate (class `ckdiff.gate`); of one name all but the first are numbered, so that names stay the same from
report to report. The rules that the verdict looked at are properties of the suite: one that does not hold is neither
good nor bad, and no test that somebody left out.

    check passed            a case that passed
    check failed            failure
    check inconclusive      error: nothing was measured, and a page that knows only red and green must not show green
    no verdict, no policy   error, as inconclusive

Of a campaign the suite has a case that says whether all was measured (class `ckdiff.campaign`) and one for each pair
and concept (class `ckdiff.campaign.PAIR`). A failed gate is a failure, whatever is missing beside it.

    gate passed             a case that passed
    gate failed             failure
    gate inconclusive, or a required job about it not done    error
    no policy               skipped: nothing was asked of it

Where a command comes to no result, that is an error, too: `suite.failure_junit`.

XML 1.0 has no place for control characters, not even as references: what does not print is written as an escape, as in
a terminal. Times are 0, and there is no timestamp: the same report gives the same text.

Schema: junit-10.xsd of Jenkins' xUnit plugin, which is also that of Maven Surefire with a few attributes more.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ckdiff.report.exports.suite import add_case, begin, finished, say_out, tell
from ckdiff.report.schema.campaign import Campaign
from ckdiff.report.words.campaign import complete_text, gates_text, job_line, missing_jobs, open_jobs
from ckdiff.report.words.sections import WHOLE, Selection
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

    from ckdiff.report.schema.campaign import Cell
    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import GateCheck, Verdict

VERDICT, GATE, CASES = "ckdiff.verdict", "ckdiff.gate", "ckdiff.campaign"


def to_junit(found: Report | Campaign, selection: Selection = WHOLE) -> str:
    """The verdict and the gate of a report, or the gates of a campaign, as one suite of test cases."""
    if isinstance(found, Campaign):
        suite = begin("ckdiff campaign", _campaign_properties(found))
        _add_campaign(suite, found)
    else:
        suite = begin("ckdiff", _properties(found))
        _add_verdict(suite, found.verdict)
    return finished(suite)


def _properties(report: Report) -> Iterator[tuple[str, object]]:
    """The checkpoints, the versions, the verdict and the policy, as names and values."""
    for side in ("base", "unlearned"):
        record = getattr(report.provenance, side)
        yield f"{side}.location", record.location
        yield f"{side}.digest", record.digest or "not hashed"
    for name, version in sorted(report.versions.items()):
        yield f"version.{printable(name)}", version
    verdict = report.verdict
    if verdict is None:
        return
    yield "verdict.label", verdict.label
    yield "verdict.knowledge", verdict.knowledge
    yield "verdict.component", verdict.component
    yield "verdict.layers", " ".join(map(str, verdict.layers))
    if verdict.gate is not None:
        yield "policy.source", verdict.gate.source
        yield "policy.digest", verdict.gate.digest
        yield "gate.outcome", verdict.gate.outcome
        for note in verdict.gate.notes:
            yield "policy.note", note
    for rule in verdict.rules:
        figures = _figures_text(rule.value, rule.threshold, rule.sense)
        yield printable(f"rule.{rule.name}"), f"{'holds' if rule.fired else 'does not hold'}: {rule.text}{figures}"


def _add_verdict(suite: Element, verdict: Verdict | None) -> None:
    """Two cases for the verdict, and one a check; without a verdict that itself is an error."""
    names = _Names()
    if verdict is None:
        hint = "the report holds no verdict: `ckdiff gate REPORT --save` judges it"
        tell(add_case(suite, VERDICT, "label"), "error", "inconclusive", hint)
        return
    label = add_case(suite, VERDICT, "label")
    said = f"{verdict.label}: {verdict.reason}"
    if verdict.gate is None:
        tell(label, "error", "inconclusive", "the verdict was held against no policy", said)
    else:
        say_out(label, said)
    say_out(add_case(suite, VERDICT, "knowledge"), f"{verdict.knowledge}: {verdict.knowledge_reason}")
    for check in () if verdict.gate is None else verdict.gate.checks:
        _add_check(add_case(suite, GATE, names.of(GATE, check.name)), check)
    for note in () if verdict.gate is None else verdict.gate.notes:
        tell(add_case(suite, GATE, names.of(GATE, "note")), "skipped", "", note)


def _add_check(case: Element, check: GateCheck) -> None:
    said = f"{check.text}{_figures_text(check.value, check.threshold)}"
    if check.outcome == "passed":
        say_out(case, said)
    else:
        tell(case, "failure" if check.outcome == "failed" else "error", check.outcome, check.text, said)


def _campaign_properties(found: Campaign) -> Iterator[tuple[str, object]]:
    yield "campaign.name", found.name
    yield "campaign.outcome", found.outcome or "no policy"
    yield "campaign.complete", "true" if found.complete else "false"
    for pair in found.pairs:
        for side in ("base", "unlearned"):
            yield printable(f"{pair.name}.{side}.location"), getattr(pair, side)
            yield printable(f"{pair.name}.{side}.digest"), getattr(pair, f"{side}_digest") or "not hashed"
    for name, version in sorted(found.versions.items()):
        yield f"version.{printable(name)}", version


def _add_campaign(suite: Element, found: Campaign) -> None:
    """A case that says whether all was measured, and one a pair and concept."""
    names, left = _Names(), missing_jobs(found)
    _add_complete(add_case(suite, CASES, names.of(CASES, "complete")), found)
    for cell in found.cells:
        kind = printable(f"{CASES}.{cell.pair}")
        case = add_case(suite, kind, names.of(kind, printable(cell.concept) or "all"))
        _add_cell(case, cell, left[cell.pair, cell.concept])


def _add_complete(case: Element, found: Campaign) -> None:
    if found.complete:
        say_out(case, gates_text(found))
    else:
        left = "; ".join(job_line(job) for job in open_jobs(found.jobs) if job.required)
        tell(case, "error", "incomplete", complete_text(found), left)


def _add_cell(case: Element, cell: Cell, left: str) -> None:
    said = f"{cell.label}: {cell.verdict}" if cell.label else "nothing was judged"
    reasons = "; ".join(filter(None, (cell.checks, left)))
    if cell.gate == "failed":
        tell(case, "failure", "failed", reasons or "the gate failed", said)
    elif cell.gate == "inconclusive" or left:
        tell(case, "error", "inconclusive", reasons or "not enough evidence", said)
    elif cell.gate == "passed":
        say_out(case, said)
    else:
        tell(case, "skipped", "", f"held against no policy: {said}")


def _figures_text(value: float, threshold: float, sense: str = "against") -> str:
    """The figure and the threshold in full, where there are both.

    >>> _figures_text(0.25, 0.5, "at_most"), _figures_text(float("nan"), 0.5)
    (' (0.25, at most 0.5)', '')
    """
    if value != value or threshold != threshold:
        return ""
    return f" ({value!r}, {sense.replace('_', ' ')} {threshold!r})"


class _Names:
    """Names of cases, each once within its class."""

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, str]] = Counter()

    def of(self, kind: str, name: str) -> str:
        self._seen[kind, name] += 1
        count = self._seen[kind, name]
        return name if count == 1 else f"{name} {count}"
