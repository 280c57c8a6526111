"""`ckdiff behave`: what both models say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ckdiff.calls.attacking import Reference
from ckdiff.calls.specs import BehaveSpec, Beside, HeldOut, Target
from ckdiff.cli.console import inconclusive, present
from ckdiff.cli.options import FORMAT, RESUME, SHOW_QUESTIONS, TABLE, THREADS, Output, Texts
from ckdiff.cli.session import Session, set_threads
from ckdiff.cli.stored import StoredPair
from ckdiff.errors import ExitStatus
from ckdiff.options import assemble
from ckdiff.scoring.settings import Answering, Machine, Settings

if TYPE_CHECKING:
    from ckdiff.report.schema.report import Report


def behave(
    pair: StoredPair,
    target: Target,
    beside: Beside,
    texts: Texts,
    held_out: HeldOut,
    never_knew: Reference,
    answering: Answering,
    machine: Machine,
    output: Output,
    threads: Annotated[int, THREADS] = 0,
    resume: Annotated[bool, RESUME] = False,
    output_format: Annotated[str, FORMAT] = TABLE,
    show_questions: Annotated[int, SHOW_QUESTIONS] = 5,
) -> None:
    """What both models say: target and unrelated questions, multiple choice and neutral text."""
    from ckdiff.calls.behave import behave as run

    neutral = texts.choose()
    settings = assemble(Settings, answering, machine)
    settings.check()
    session = Session(output)
    existing, sides = session.open_pair(pair, "behave")
    parts = sides, target, beside, held_out, never_knew
    spec = assemble(BehaveSpec, *parts, neutral=True if neutral is None else neutral, settings=settings)
    set_threads(threads)
    with session.keep(resume) as place:
        report = session.work(lambda listener: run(spec, listener, existing, place, resume))
        report = session.write(report, "behaviour")
    present(report, output_format, 10, "behaviour", show_questions)
    session.say(f"report: {output.output}")
    raise typer.Exit(status_of(report))


def status_of(report: Report) -> ExitStatus:
    """The exit status: with nothing measured, nothing can be said."""
    said = report.behaviour
    if said is None or not (said.answers or said.choices or said.neutral):
        return inconclusive("nothing was measured")
    return ExitStatus.OK
