"""`ckdiff discover`: what was unlearned, when nobody says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ckdiff.calls.specs import Discovering, DiscoverSpec
from ckdiff.cli.console import inconclusive, present
from ckdiff.cli.options import FORMAT, RESUME, TABLE, THREADS, TOP, Output
from ckdiff.cli.session import Session, set_threads
from ckdiff.cli.stored import StoredPair
from ckdiff.errors import CkdiffError, ExitStatus
from ckdiff.files import replace_file, unwritable
from ckdiff.options import OUT, Option, assemble, check_options

if TYPE_CHECKING:
    from ckdiff.report.schema.report import Report

WRITE = Option("--write", "A file for questions about what was found, with the base's answers.", OUT)


def discover(
    pair: StoredPair,
    discovering: Discovering,
    output: Output,
    write: Annotated[Path | None, WRITE] = None,
    threads: Annotated[int, THREADS] = 0,
    resume: Annotated[bool, RESUME] = False,
    output_format: Annotated[str, FORMAT] = TABLE,
    top: Annotated[int, TOP.but("How many words and candidates the table lists.")] = 10,
) -> None:
    """What was unlearned, when nobody says: lost words and topics above noise, and what both models say of them."""
    from ckdiff.calls.discover import discover as run

    check_options(discovering)
    session = Session(output)
    if write is not None and write.exists() and not output.overwrite:
        raise CkdiffError(f"{write}: is there already; name another file, or use --overwrite")
    existing, sides = session.open_pair(pair, "discover")
    spec = assemble(DiscoverSpec, sides, discovering)
    set_threads(threads)
    with session.keep(resume, "discovery") as place:
        report = session.work(lambda listener: run(spec, listener, existing, place, resume))
        report = session.write(report, "discovery")
    present(report, output_format, top, "discovery")
    session.say(f"report: {output.output}")
    if write is not None:
        write_questions(session, report, write)
    raise typer.Exit(status_of(report))


def write_questions(session: Session, report: Report, path: Path) -> None:
    """Write questions about the topic, where there is one."""
    from ckdiff.calls.discover import question_lines

    found = report.discovery
    if found is None or found.outcome != "trace":
        session.say(f"{path}: not written: no topic was found")
        return
    try:
        replace_file(path, question_lines(found).encode())
    except OSError as error:
        raise CkdiffError(f"{path}: cannot be written ({unwritable(error)}); name another file") from error
    session.say(f"questions: {path}")


def status_of(report: Report) -> ExitStatus:
    """The exit status: nothing can be concluded where nothing stands out, or all is lost."""
    found = report.discovery
    if found is None or found.outcome == "none":
        return inconclusive("no readable trace: nothing stands out above noise")
    if found.outcome == "ruined":
        return inconclusive("the unlearned model is ruined: everything is lost, so nothing is named")
    return ExitStatus.OK
