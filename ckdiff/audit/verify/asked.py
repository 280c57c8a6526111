"""Are these the questions of a report, and its facts those of their file? `check_questions(report, questions, found)`.

Which questions are about one fact says their file (`cluster`, `fact`), their answers and their wording. One fact that
is counted as eight makes an interval a lie, and nothing else in the report shows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.questions.clusters import find_clusters, in_order
from ckdiff.scoring.clusters import ALONE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.audit.verify.differences import Differences
    from ckdiff.questions.questions import QuestionSet
    from ckdiff.report.schema.report import Report

    Rows = Sequence[tuple[str, str, int]]
    """Of each question what was asked, what it was answered with, and the fact that it is said to be about."""


def check_questions(report: Report, questions: QuestionSet, found: Differences) -> None:
    """Hold the target questions of every section, and which of them are about one fact, against their file.

    Args:
        report: what is stored.
        questions: of the file that the report's questions are said to be from.
        found: gets the differences.
    """
    for where, digest, rows in _sections(report, questions):
        found.exact(f"{where}: questions", digest, questions.given)
        if digest == questions.given:
            _check_facts(f"{where}: facts by their file", rows, questions, found)


def _sections(report: Report, questions: QuestionSet) -> Iterator[tuple[str, str, Rows]]:
    """Each section with target questions, the digest of what was given to be asked, and its rows."""
    if report.probe is not None:
        said = report.probe.settings
        rows = [(one.text, one.answer, one.cluster) for one in report.probe.questions]
        yield "probe", said.get("questions_given_digest", said.get("questions_digest", "")), rows
    if report.behaviour is not None:
        for one in report.behaviour.answers:
            if one.name == "target":
                asked = [(row.text, row.answer_base, row.cluster) for row in one.questions]
                yield "behaviour/target", one.given_digest or one.digest, asked
    if report.attack is not None:
        # An attack keeps of an answer what it looks for; the file's own answers part the facts as well.
        given = {one.text: one.answer or "" for one in questions.questions}
        attacked = [(one.text, given.get(one.text, ""), one.cluster) for one in report.attack.questions]
        yield "attack", report.attack.settings.get("questions_digest", ""), attacked if all(given.values()) else []


def _check_facts(where: str, rows: Rows, questions: QuestionSet, found: Differences) -> None:
    """The facts that the rows are said to be about are those of the file; older reports know none."""
    known = {one.text: one for one in questions.questions}
    if all(cluster == ALONE for _, _, cluster in rows) or any(text not in known for text, _, _ in rows):
        return
    again = find_clusters([known[text] for text, _, _ in rows], [answer for _, answer, _ in rows])
    found.exact(where, list(in_order(cluster for _, _, cluster in rows)), list(again))
