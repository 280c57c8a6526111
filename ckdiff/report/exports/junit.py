"""The verdict as JUnit XML, for pages that show test results: `to_junit(report)`.

One suite a report, and in it a case for the verdict, one for every rule that it looked at (class `ckdiff.verdict`) and
one for every check of the gate (class `ckdiff.gate`); of one name all but the first are numbered, so that names are
stable from report to report.

    check passed            a case that passed
    check failed            failure
    check inconclusive      error: nothing was measured, and a page that knows only red and green must not show green
    rule that holds         a case that passed
    rule that does not      skipped: it was looked at and decides nothing; that alone is neither good nor bad
    no verdict, no policy   error, as inconclusive

XML 1.0 has no place for control characters, not even as references: what does not print is written as an escape, as in
a terminal. Times are 0, and there is no timestamp: the same report gives the same text.

Schema: junit-10.xsd of Jenkins' xUnit plugin, which is also that of Maven Surefire with a few attributes more.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import GateCheck, RuleResult, Verdict


VERDICT, GATE = "ckdiff.verdict", "ckdiff.gate"


KINDS = {"failure": "failures", "error": "errors", "skipped": "skipped"}
"""Children of a case that are counted, each with the attribute of the suite that counts them."""


def to_junit(report: Report) -> str:
    """The verdict and the gate of a report as one suite of test cases; without a verdict that itself is an error."""
    suite = Element("testsuite", {"name": "ckdiff"})
    properties = SubElement(suite, "properties")
    for name, value in _properties(report):
        SubElement(properties, "property", {"name": name, "value": printable(value)})
    if report.verdict is None:
        hint = "the report holds no verdict: `ckdiff gate REPORT --save` judges it"
        _told(_case(suite, VERDICT, "label"), "error", "inconclusive", hint)
    else:
        _add_verdict(suite, report.verdict)
    cases = suite.findall("testcase")
    counts = {attribute: sum(case.find(kind) is not None for case in cases) for kind, attribute in KINDS.items()}
    suite.attrib |= {"tests": str(len(cases)), **{name: str(count) for name, count in counts.items()}, "time": "0"}
    indent(suite)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(suite, encoding="unicode")}\n'


def _properties(report: Report) -> Iterator[tuple[str, object]]:
    """What was judged, and by what."""
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
    yield "verdict.component", verdict.component
    yield "verdict.layers", " ".join(map(str, verdict.layers))
    if verdict.gate is not None:
        yield "policy.source", verdict.gate.source
        yield "policy.digest", verdict.gate.digest
        yield "gate.outcome", verdict.gate.outcome


def _add_verdict(suite: Element, verdict: Verdict) -> None:
    names = _Names()
    label = _case(suite, VERDICT, names.of(VERDICT, "label"))
    said = f"{verdict.label}: {verdict.reason}"
    if verdict.gate is None:
        _told(label, "error", "inconclusive", "the verdict was held against no policy", said)
    else:
        _out(label, said)
    for rule in verdict.rules:
        _add_rule(_case(suite, VERDICT, names.of(VERDICT, rule.name)), rule)
    for check in () if verdict.gate is None else verdict.gate.checks:
        _add_check(_case(suite, GATE, names.of(GATE, check.name)), check)


def _add_rule(case: Element, rule: RuleResult) -> None:
    said = f"{rule.text}{_held(rule.value, rule.threshold, rule.sense)}"
    if rule.fired:
        _out(case, said)
    else:
        _told(case, "skipped", "", f"does not hold: {said}")


def _add_check(case: Element, check: GateCheck) -> None:
    said = f"{check.text}{_held(check.value, check.threshold)}"
    if check.outcome == "passed":
        _out(case, said)
    else:
        _told(case, "failure" if check.outcome == "failed" else "error", check.outcome, check.text, said)


def _held(value: float, threshold: float, sense: str = "against") -> str:
    """The figure and the threshold in full, where there are both.

    >>> _held(0.25, 0.5, "at_most"), _held(float("nan"), 0.5)
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


def _case(suite: Element, kind: str, name: str) -> Element:
    return SubElement(suite, "testcase", {"classname": kind, "name": printable(name), "time": "0"})


def _out(case: Element, text: str) -> None:
    SubElement(case, "system-out").text = printable(text)


def _told(case: Element, kind: str, sort: str, message: str, text: str = "") -> None:
    """A child that says how a case ended otherwise than well."""
    child = SubElement(case, kind, ({"type": sort} if sort else {}) | {"message": printable(message)})
    child.text = printable(text) if text else None
