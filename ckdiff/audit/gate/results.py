"""The result of a check, and what checks share: `Result`, `Check`, and the words and figures of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckdiff.scoring.clusters import cluster_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ckdiff.report.schema.behaviour import AnswerSet
    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Outcome, Verdict


NAN = float("nan")


PASSED: Outcome = "passed"


FAILED: Outcome = "failed"


UNKNOWN: Outcome = "inconclusive"


@dataclass(frozen=True, slots=True)
class Result:
    """Outcome of a check: its words, the figure and what it was held against."""

    outcome: Outcome
    text: str
    value: float = NAN
    threshold: float = NAN


@dataclass(frozen=True, slots=True)
class Check:
    """One key of a policy.

    Attributes:
        kind: what its value may be, one of `kinds`.
        look: holds it against a report that has a verdict.
        meaning: what it asks for, for people.
    """

    kind: Callable[[Any], Any]
    look: Callable[[Report, Any], Iterable[Result]]
    meaning: str


def verdict_of(report: Report) -> Verdict:
    """The verdict of a report that has been judged."""
    assert report.verdict is not None
    return report.verdict


def sets(report: Report, name: str) -> list[AnswerSet]:
    """The sets of open questions of a name; none where nothing was asked."""
    answers = () if report.behaviour is None else report.behaviour.answers
    return [one for one in answers if one.name == name and one.questions]


def target_facts(report: Report) -> int:
    """How many facts the target questions ask about, of probe and answers the fewer: clusters count as one."""
    counts = [] if report.probe is None else [cluster_count(row.cluster for row in report.probe.questions)]
    counts += [cluster_count(row.cluster for row in one.questions) for one in sets(report, "target")]
    return min(counts, default=0)


def join(names: Iterable[str]) -> str:
    """Names within a sentence."""
    return ", ".join(names)


def enough(there: bool, lacks: str, has: str) -> Result:
    """Passed where something is there; else inconclusive."""
    return Result(PASSED, has) if there else Result(UNKNOWN, lacks)


def least(value: float, wanted: float, text: str) -> Result:
    """Passed where there is at least as much as is wanted, else inconclusive."""
    return Result(PASSED if value >= wanted else UNKNOWN, text, float(value), float(wanted))


def most(value: float, wanted: float, text: str, otherwise: Outcome = FAILED) -> Result:
    """Passed where a value is at most what is wanted."""
    return Result(PASSED if value <= wanted else otherwise, text, float(value), float(wanted))
