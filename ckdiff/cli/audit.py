"""`ckdiff audit` and `ckdiff gate`: a verdict on a pair, held against a policy, and an exit status for a release.

Part of the door: options and policy become a spec; what was found is written, printed, and turned into a status.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ckdiff.cli.console import present, remark
from ckdiff.cli.options import (
    ASKED,
    RESTORED,
    RUNS,
    TABLE,
    AdapterBaseOption,
    BaseArgument,
    BatchOption,
    DeviceOption,
    FormatOption,
    HashOption,
    OutputOption,
    OverwriteOption,
    PolicyOption,
    QuietOption,
    StreamOption,
    ThreadsOption,
    TokenizerOption,
    UnlearnedArgument,
)
from ckdiff.errors import CkdiffError, ReportError

if TYPE_CHECKING:
    from ckdiff.calls.specs import AuditSpec
    from ckdiff.report.schema.report import Report


def audit(
    base: BaseArgument,
    unlearned: UnlearnedArgument,
    policy: PolicyOption = None,
    questions: Annotated[
        Path | None,
        typer.Option(
            "--questions",
            "-Q",
            help="Questions about what was to be unlearned: text, JSON, CSV, parquet.",
            rich_help_panel=ASKED,
        ),
    ] = None,
    question: Annotated[
        list[str] | None, typer.Option("--question", help="Such a question; may be repeated.", rich_help_panel=ASKED)
    ] = None,
    concept: Annotated[
        str | None, typer.Option("--concept", help="Which concept or subject of the file.", rich_help_panel=ASKED)
    ] = None,
    unrelated: Annotated[
        Path | None, typer.Option("--unrelated", help="A file of other questions.", rich_help_panel=ASKED)
    ] = None,
    choices: Annotated[
        Path | None, typer.Option("--choices", help="A file of multiple-choice questions.", rich_help_panel=ASKED)
    ] = None,
    neutral: Annotated[
        Path | None, typer.Option("--neutral", help="A file of neutral texts.", rich_help_panel=ASKED)
    ] = None,
    tokens: Annotated[
        int | None, typer.Option("--tokens", help="The most tokens of an answer; else 30.", rich_help_panel=ASKED)
    ] = None,
    tokenizer: TokenizerOption = None,
    mode: Annotated[
        str | None, typer.Option("--mode", "-m", help="Modes of the probe; else all.", rich_help_panel=RESTORED)
    ] = None,
    window: Annotated[
        int | None, typer.Option("--window", help="Layers restored together; else 5.", rich_help_panel=RESTORED)
    ] = None,
    neurons: Annotated[
        bool, typer.Option("--neurons", help="Also name the neurons that carry it.", rich_help_panel=RESTORED)
    ] = False,
    stream: StreamOption = "auto",
    device: DeviceOption = "auto",
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="As in probe; else float32.", rich_help_panel=RUNS)
    ] = None,
    batch_size: BatchOption = 32,
    threads: ThreadsOption = 0,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what would run, how large and how long, and stop.", rich_help_panel=RUNS)
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted probe.", rich_help_panel=RUNS)
    ] = False,
    output: OutputOption = Path("ckdiff.h5"),
    output_format: FormatOption = TABLE,
    hashes: HashOption = True,
    adapter_base: AdapterBaseOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """One verdict on a pair: compare, behave, probe and judge; the exit status is that of the policy's gate."""
    from ckdiff.audit.gate.policy import read_policy
    from ckdiff.calls.specs import AuditSpec, measured, settings_of
    from ckdiff.cli.session import set_threads
    from ckdiff.cli.values import modes
    from ckdiff.report.words.verdict import exit_status

    wanted = read_policy(policy)
    given = {
        "questions": questions,
        "concept": concept,
        "unrelated": unrelated,
        "choices": choices,
        "neutral": neutral,
        "tokens": tokens,
        "modes": None if mode is None else modes(mode),
        "window": window,
        "neurons": neurons or None,
        "dtype": dtype,
    }
    measure = measured(wanted, {name: value for name, value in given.items() if value is not None})
    if question and questions is None:
        # What is asked on the command line goes before the policy's file; two on the command line are refused.
        measure.pop("questions", None)
    ways = {"device": device, "stream": stream, "batch_size": batch_size, "tokenizer": tokenizer}
    spec = AuditSpec(
        base,
        unlearned,
        wanted,
        measure.get("questions"),
        tuple(question or ()),
        measure.get("concept"),
        measure.get("unrelated"),
        measure.get("most_unrelated", 50),
        measure.get("choices"),
        measure.get("neutral", True),
        settings_of(measure, ways),
        hashes,
        adapter_base,
    )
    set_threads(threads)
    if plan:
        _print_plan(spec)
        return
    report = _run(spec, output, overwrite, resume, quiet)
    present(report, output_format, 10, "verdict")
    remark(f"report: {output}", quiet)
    raise typer.Exit(exit_status(report.verdict))


def _run(spec: AuditSpec, output: Path, overwrite: bool, resume: bool, quiet: bool) -> Report:
    """Audit, and write the report; what it was about before is replaced where it was the same pair's."""
    import functools

    from ckdiff.calls.audit import audit_pair
    from ckdiff.cli.session import LESS, enough_memory, identity, listening, only_writer
    from ckdiff.probes import kept_sweep as partial
    from ckdiff.progress import Stopped
    from ckdiff.report.hdf5.file import check_same_pair, check_writable, write_report

    check_writable(output)
    there = identity(output)
    accept = None if overwrite else functools.partial(check_same_pair, output)
    place = partial.place(output)
    if place.exists() and not resume:
        remark(
            f"{place}: an interrupted probe is there and will be discarded; stop, and use --resume to go on with it",
            quiet,
        )
    try:
        with enough_memory(LESS), listening(quiet, remark) as listener:
            existing = None if overwrite else _existing(output)
            report = audit_pair(spec, listener, existing, accept, place, resume)
    except Stopped:
        remark("what is done is kept; the same command with --resume goes on", quiet)
        raise KeyboardInterrupt from None
    with only_writer(output):
        if identity(output) != there:
            remark(f"{output}: was written by another command meanwhile, and is replaced by this audit", quiet)
            if not overwrite:
                check_same_pair(output, report.provenance.base.location, report.provenance.unlearned.location)
        write_report(report, output)
    partial.remove(place)
    return report


def _existing(output: Path) -> Report | None:
    """The report that is there already, or None.

    Raises:
        ReportError: something else is there.
    """
    from ckdiff.report.hdf5.file import read_report

    if not output.exists():
        return None
    try:
        return read_report(output)
    except ReportError as error:
        raise ReportError(f"{error}; or replace it with --overwrite") from error


def _print_plan(spec: AuditSpec) -> None:
    import sys

    from ckdiff.calls.probe import outline
    from ckdiff.cli.console import outline_text

    if spec.probe is None:
        raise CkdiffError("--plan: nothing would be probed without questions; give --questions")
    sys.stdout.write(outline_text(outline(spec.probe)))
