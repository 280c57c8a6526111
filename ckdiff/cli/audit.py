"""`ckdiff audit`: a verdict on a pair, held against a policy, and an exit status for a release."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ckdiff.calls.attacking import Tried
from ckdiff.calls.specs import (
    DISCOVER,
    AuditSpec,
    Beside,
    HeldOut,
    Pair,
    Target,
    audit_settings,
    measures_of,
    questions_in,
    settings_in,
)
from ckdiff.cli.again import type_files
from ckdiff.cli.console import present, write_attacks, write_lines, write_outline
from ckdiff.cli.groups import Given, Retold
from ckdiff.cli.options import DETAILS, FORMAT, PLAN, POLICY, RESUME, TABLE, THREADS, Output, Texts
from ckdiff.cli.session import Session, set_threads
from ckdiff.errors import CkdiffError
from ckdiff.options import assemble
from ckdiff.scoring.settings import Answering, Machine, Restoring, Sweeping

MEASURED = Given(
    (Target, Beside, HeldOut, Restoring, Sweeping, Answering, Machine), audit_settings, without=("layers", "kl")
)


def audit(
    pair: Pair,
    given: Annotated[Mapping[str, Any], MEASURED],
    tried: Tried,
    texts: Texts,
    output: Output,
    typed: Annotated[Mapping[str, str], Retold()],
    policy: Annotated[Path | None, POLICY] = None,
    threads: Annotated[int, THREADS] = 0,
    discover: Annotated[bool, DISCOVER] = False,
    plan: Annotated[bool, PLAN] = False,
    resume: Annotated[bool, RESUME] = False,
    output_format: Annotated[str, FORMAT] = TABLE,
    details: Annotated[bool, DETAILS] = False,
) -> None:
    """One verdict on a pair: compare, behave, probe, attack, judge; the exit status is the gate's."""
    from ckdiff.audit.gate.policy import read_policy
    from ckdiff.calls.audit import audit_pair
    from ckdiff.report.words.verdict import exit_status

    wanted, neutral = read_policy(policy), texts.choose()
    measures = measures_of(wanted, given if neutral is None else {**given, "neutral": neutral})
    settings, asked = settings_in(measures, audit_settings()), questions_in(measures)
    spec = assemble(AuditSpec, pair, tried, policy=wanted, settings=settings, discover=discover, **asked)
    set_threads(threads)
    session = Session(output)
    if plan:
        print_plan(spec, session)
        return
    if spec.probe is None:
        session.say(UNASKED)
    with session.keep(resume) as place:
        report = session.work(
            lambda listener: audit_pair(spec, listener, session.read_existing(), session.accept, place, resume)
        )
        session.replace(report)
    present(report, output_format, 10, "verdict", 0, not details, output.output, type_files(measures) | dict(typed))
    session.say(f"report: {output.output}")
    raise typer.Exit(exit_status(report.verdict))


UNASKED = (
    "no --questions: nothing can be said of what was to be unlearned, of where the effect lives and of what comes back;"
    " weights are compared, and unrelated questions and neutral texts asked"
)
"""What an audit says first that asks about nothing in particular."""


PROBED, ATTACKED = "Probe: states and weights of the base are put back", "Attacks on the unlearned model alone"
"""The stages of a plan; each has its memory and its time."""


def print_plan(spec: AuditSpec, session: Session) -> None:
    """Print the outline of an audit's probe, and of its attacks; what is to be doubted beforehand is said.

    Raises:
        CkdiffError: nothing would be probed, or the report is another pair's.
    """
    from ckdiff.calls.attack import outline as outline_attacks
    from ckdiff.calls.audit import check_attacks
    from ckdiff.calls.probe import outline
    from ckdiff.calls.provenance import open_pair
    from ckdiff.calls.said import doubt_order

    if spec.probe is None:
        raise CkdiffError("--plan: nothing would be probed without questions; give --questions")
    session.accept(*(side.location for side in open_pair(spec.behave)))
    check_attacks(spec)
    if swapped := doubt_order(Path(spec.base)):
        session.say(swapped)
    found = outline(spec.probe)
    session.say_unchatted(found.notes)
    write_lines([PROBED])
    write_outline(found)
    if spec.attack is not None:
        write_lines(["", ATTACKED])
        write_attacks(outline_attacks(spec.attack))
