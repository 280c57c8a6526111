"""`ckdiff probe`: where the effect lives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ckdiff.calls.specs import ProbeSpec, Target
from ckdiff.cli.console import inconclusive, present, write_outline
from ckdiff.cli.options import FORMAT, PLAN, RESUME, SHOW_QUESTIONS, TABLE, THREADS, Output
from ckdiff.cli.session import Session, set_threads
from ckdiff.cli.stored import StoredPair
from ckdiff.errors import ExitStatus
from ckdiff.options import ASK_UNRELATED, assemble
from ckdiff.scoring.settings import Answering, Machine, Restoring, Settings

if TYPE_CHECKING:
    from ckdiff.report.schema.report import Report


def probe(
    pair: StoredPair,
    restoring: Restoring,
    target: Target,
    answering: Answering,
    machine: Machine,
    output: Output,
    unrelated: Annotated[bool, ASK_UNRELATED] = False,
    threads: Annotated[int, THREADS] = 0,
    plan: Annotated[bool, PLAN] = False,
    resume: Annotated[bool, RESUME] = False,
    output_format: Annotated[str, FORMAT] = TABLE,
    show_questions: Annotated[int, SHOW_QUESTIONS] = 0,
) -> None:
    """Where the effect lives: put base states back, a few layers at a time, and see how much returns."""
    from ckdiff.calls.probe import outline
    from ckdiff.calls.probe import probe as run

    settings = assemble(Settings, restoring, answering, machine)
    settings.check()
    session = Session(output)
    existing, sides = session.open_pair(pair, "probe")
    spec = assemble(ProbeSpec, sides, target, unrelated=unrelated, settings=settings)
    set_threads(threads)
    if plan:
        found = outline(spec, existing)
        session.say_unchatted(found.notes)
        write_outline(found)
        return
    with session.keep(resume) as place:
        report = session.work(lambda listener: run(spec, listener, existing, place, resume))
        report = session.write(report, "probe")
    present(report, output_format, 10, "probe", show_questions)
    session.say(f"report: {output.output}")
    raise typer.Exit(status_of(report))


def status_of(report: Report) -> ExitStatus:
    """The exit status of a probe: scores that rest on nothing are inconclusive."""
    from ckdiff.report.words.probe import inconclusive as reason_of

    reason = reason_of(report.probe) if report.probe is not None else "nothing was measured"
    return inconclusive(reason) if reason else ExitStatus.OK
