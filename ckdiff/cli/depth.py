"""`ckdiff depth`: how deep an unlearning goes, beside a model that never knew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ckdiff.calls.attacking import COMPAT, MARGINS, Reference
from ckdiff.calls.specs import DepthSpec, Target
from ckdiff.cli.console import inconclusive, present, write_depth
from ckdiff.cli.options import FORMAT, PLAN, RESUME, SHOW_QUESTIONS, TABLE, THREADS, Output
from ckdiff.cli.session import Session, set_threads
from ckdiff.cli.stored import StoredPair
from ckdiff.errors import ExitStatus
from ckdiff.options import assemble
from ckdiff.scoring.settings import GIVEN_ANSWERS, Answering, Machine, Settings

if TYPE_CHECKING:
    from ckdiff.report.schema.report import Report


def depth(
    pair: StoredPair,
    beside: Reference,
    target: Target,
    answering: Answering,
    machine: Machine,
    output: Output,
    compat: Annotated[bool, COMPAT] = False,
    margins: Annotated[str | None, MARGINS] = None,
    given_answers: Annotated[bool, GIVEN_ANSWERS] = False,
    threads: Annotated[int, THREADS] = 0,
    plan: Annotated[bool, PLAN] = False,
    resume: Annotated[bool, RESUME] = False,
    output_format: Annotated[str, FORMAT] = TABLE,
    show_questions: Annotated[int, SHOW_QUESTIONS] = 0,
) -> None:
    """How deep it goes: what the unlearned model still carries of what a model that never knew lacks."""
    from ckdiff.calls.depth import depth as run
    from ckdiff.calls.depth import outline

    settings = assemble(Settings, answering, machine, given_answers=given_answers)
    settings.check()
    session = Session(output)
    existing, sides = session.open_pair(pair, "depth")
    spec = assemble(DepthSpec, sides, beside, target, compat=compat, margins=margins, settings=settings)
    set_threads(threads)
    if plan:
        found = outline(spec, existing)
        session.say_unchatted(found.notes)
        write_depth(found)
        return
    with session.keep(resume, "depth") as place:
        report = session.work(lambda listener: run(spec, listener, existing, place, resume))
        report = session.write(report, "depth")
    present(report, output_format, 10, "depth", show_questions)
    session.say(f"report: {output.output}")
    raise typer.Exit(status_of(report))


def status_of(report: Report) -> ExitStatus:
    """The exit status: nothing can be concluded where no question tells, or the reference knows most answers."""
    found = report.depth
    if found is None or not any(one.layers for one in found.questions):
        return inconclusive("no question tells the base from the reference")
    said = sum(one.given_reference for one in found.questions)
    if 2 * said > len(found.questions):
        return inconclusive(f"the reference gives {said} of {len(found.questions)} answers itself")
    return ExitStatus.OK
