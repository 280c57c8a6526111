"""The sets of questions and texts of a report, for whoever names what its figures were measured with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.report import Report


def question_sets(report: Report) -> Iterator[tuple[str, str, str]]:
    """Every set of questions or texts: what asked it, its digest, and where it came from, as they stand there."""
    if report.probe is not None and "questions_digest" in report.probe.settings:
        settings = report.probe.settings
        yield "probe", settings["questions_digest"], settings.get("questions_source", "")
    if report.behaviour is not None:
        for one in report.behaviour.answers:
            yield f"behaviour/{one.name}", one.digest, one.source
        if report.behaviour.choices is not None:
            yield "behaviour/choices", report.behaviour.choices.digest, report.behaviour.choices.source
        if report.behaviour.neutral is not None:
            yield "behaviour/neutral", report.behaviour.neutral.digest, report.behaviour.neutral.source
