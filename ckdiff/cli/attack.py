"""`ckdiff attack`: does it come back, without the base's help?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ckdiff.calls.attacking import Attacking
from ckdiff.calls.specs import AttackSpec, Beside, Target
from ckdiff.cli.console import inconclusive, present, write_attacks
from ckdiff.cli.options import FORMAT, PLAN, RESUME, TABLE, THREADS, Output
from ckdiff.cli.session import Session, set_threads
from ckdiff.cli.stored import StoredPair
from ckdiff.errors import ExitStatus
from ckdiff.options import assemble
from ckdiff.scoring.settings import Answering, Machine, Settings

if TYPE_CHECKING:
    from ckdiff.report.schema.report import Report


def attack(
    pair: StoredPair,
    attacking: Attacking,
    target: Target,
    beside: Beside,
    answering: Answering,
    machine: Machine,
    output: Output,
    threads: Annotated[int, THREADS] = 0,
    plan: Annotated[bool, PLAN] = False,
    resume: Annotated[bool, RESUME] = False,
    output_format: Annotated[str, FORMAT] = TABLE,
) -> None:
    """Does it come back: other words, samples, coarser weights, a few steps of training, without the base's help."""
    from ckdiff.calls.attack import attack as run
    from ckdiff.calls.attack import outline

    settings = assemble(Settings, answering, machine)
    settings.check()
    session = Session(output)
    existing, sides = session.open_pair(pair, "attack")
    spec = assemble(AttackSpec, sides, attacking, target, beside, neutral=False, settings=settings)
    set_threads(threads)
    if plan:
        found = outline(spec, existing)
        session.say_unchatted(found.notes)
        write_attacks(found)
        return
    with session.keep(resume, "attack") as place:
        report = session.work(lambda listener: run(spec, listener, existing, place, resume))
        report = session.write(report, "attack")
    present(report, output_format, 10, "attack")
    session.say(f"report: {output.output}")
    known = still_there(report)
    if known:
        session.say("by the rules of a verdict the model still knows it: `ckdiff gate` says on what this rests")
    raise typer.Exit(status_of(report, known))


def still_there(report: Report) -> bool:
    """Whether a verdict on these attacks would say so."""
    from ckdiff.audit.verdict.verdict import judge

    return judge(report).knowledge == "still there"


def status_of(report: Report, known: bool) -> ExitStatus:
    """The exit status: with an attack that was asked for and not measured, nothing can be concluded.

    Args:
        report: with attacks.
        known: they show that the model still knows: then they could show something.
    """
    found = report.attack
    if found is not None and not found.tiers and any(one.returned >= 0 for one in found.rows):
        # Only what warns was asked for, and it was measured.
        return ExitStatus.OK
    if found is None or not any(one.ran for one in found.tiers):
        return inconclusive("nothing was measured that decides")
    missing = "; ".join(one.missing for one in found.tiers if one.missing)
    if missing:
        return inconclusive(missing)
    weak = [str(one.tier) for one in found.tiers if not one.able and not one.returned]
    if weak and not known:
        return inconclusive(f"tier {', '.join(weak)} could not have shown anything with these questions")
    return ExitStatus.OK
