"""The door: parse, call, present. Nothing is computed here, and everything heavy is imported inside a command."""

from __future__ import annotations

import errno
import functools
import io
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckdiff import __version__
from ckdiff.audit_command import audit, gate
from ckdiff.campaign_command import campaign, gather
from ckdiff.corpus_command import corpus
from ckdiff.demo import demo
from ckdiff.errors import CkdiffError, ExitStatus
from ckdiff.making import unlearn
from ckdiff.page_command import html
from ckdiff.proof_command import attest, verify
from ckdiff.terminal import (
    ASKED,
    RESTORED,
    RUNS,
    SECTIONS,
    AdapterBaseOption,
    BaseArgument,
    BatchOption,
    ChatOption,
    ConceptOption,
    DeviceOption,
    DtypeOption,
    Format,
    FormatOption,
    HashOption,
    OutputOption,
    OverwriteOption,
    PairBaseArgument,
    PairUnlearnedArgument,
    QuietOption,
    ShowOption,
    StreamOption,
    TemplateOption,
    ThreadsOption,
    TokenizerOption,
    TopOption,
    UnlearnedArgument,
    drops_verdict,
    output,
    present,
    present_campaign,
    progress,
    remark,
    sections,
)

if TYPE_CHECKING:
    from ckdiff.report.schema import Report

app = typer.Typer(
    name="ckdiff",
    help="What did unlearning change in a model, and did the knowledge go away?",
    add_completion=False,
    pretty_exceptions_enable=False,
)


INTERRUPTED = 130
"""What a shell calls a process that Ctrl-C ended."""


@app.callback(invoke_without_command=True)
def door(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """What did unlearning change in a model, and did the knowledge go away?"""
    if version:
        sys.stdout.write(f"ckdiff {__version__}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        sys.stderr.write(f"{context.get_help()}\n")
        raise typer.Exit(ExitStatus.USAGE)


@app.command()
def compare(
    base: BaseArgument,
    unlearned: UnlearnedArgument,
    output: OutputOption = Path("ckdiff.h5"),
    output_format: FormatOption = Format.TABLE,
    top: TopOption = 10,
    hashes: HashOption = True,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 when the two differ.")] = False,
    adapter_base: AdapterBaseOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """What moved: parameter drift per component, layer, tensor and neuron."""
    from ckdiff.api import CompareSpec
    from ckdiff.api import compare as run
    from ckdiff.probe_command import only_writer
    from ckdiff.report.hdf5 import check_same_pair, check_writable, read_report, write_report

    check_writable(output)
    accept = None if overwrite else functools.partial(check_same_pair, output)
    spec = CompareSpec(base, unlearned, hash=hashes, adapter_base=adapter_base)
    with progress("comparing", quiet) as advance:
        report = run(spec, advance, accept)
    with only_writer(output):
        if output.exists() and not overwrite:
            older = read_report(output)
            drops_verdict(older, output, quiet)
            if older.probe is not None or older.behaviour is not None:
                # What was measured on the same weights stays in the report; what was on others is refused, not dropped.
                from ckdiff.api import joined

                report = joined(older, report)
        write_report(report, output)
    present(report, output_format, top, "compare")
    remark(f"report: {output}", quiet)
    raise typer.Exit(verdict(report, exit_code))


@app.command()
def probe(
    base: PairBaseArgument = None,
    unlearned: PairUnlearnedArgument = None,
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            "-m",
            help="What is put back: coeff, values, attn, attn+coeff, keys, mlp, attn-weights, ancillary, or all.",
            rich_help_panel=RESTORED,
        ),
    ] = "coeff",
    variant: Annotated[
        str,
        typer.Option(
            "--variant",
            help="What else is held still: open, isolated, direct; whole: one window, all layers; or all.",
            rich_help_panel=RESTORED,
        ),
    ] = "open,isolated",
    direction: Annotated[
        str,
        typer.Option(
            "--direction", help="restore: base states into the unlearned model; break; both.", rich_help_panel=RESTORED
        ),
    ] = "restore",
    questions: Annotated[
        Path | None,
        typer.Option("--questions", "-Q", help="A file of questions: text, JSON or JSONL.", rich_help_panel=ASKED),
    ] = None,
    question: Annotated[
        list[str] | None, typer.Option("--question", help="A question; may be repeated.", rich_help_panel=ASKED)
    ] = None,
    concept: ConceptOption = None,
    unrelated: Annotated[
        bool, typer.Option("--unrelated", help="Ask the concept's unrelated questions.", rich_help_panel=ASKED)
    ] = False,
    window: Annotated[int, typer.Option("--window", help="Layers restored together.", rich_help_panel=RESTORED)] = 5,
    layers: Annotated[
        str | None, typer.Option("--layers", help="Window centres, such as 0,5-9; else all.", rich_help_panel=RESTORED)
    ] = None,
    tokens: Annotated[
        int, typer.Option("--tokens", help="The most tokens of an answer that are scored.", rich_help_panel=ASKED)
    ] = 30,
    given_answers: Annotated[
        bool,
        typer.Option("--given-answers", help="Score the file's answers, not the base's own.", rich_help_panel=ASKED),
    ] = False,
    prompt_template: TemplateOption = None,
    chat_template: ChatOption = False,
    tokenizer: TokenizerOption = None,
    neurons: Annotated[
        bool,
        typer.Option(
            "--neurons", help="Of mode coeff: which neurons carry the best windows.", rich_help_panel=RESTORED
        ),
    ] = False,
    neuron_goal: Annotated[
        float,
        typer.Option(
            "--neuron-goal", help="The share of a window's krs_kl that they bring back.", rich_help_panel=RESTORED
        ),
    ] = 0.8,
    kl: Annotated[
        bool, typer.Option("--kl/--no-kl", help="krs_kl and top1, which need every logit.", rich_help_panel=RUNS)
    ] = True,
    stream: StreamOption = "auto",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    batch_size: BatchOption = 32,
    threads: ThreadsOption = 0,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what would run, how large and how long, and stop.", rich_help_panel=RUNS)
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted probe.", rich_help_panel=RUNS)
    ] = False,
    output: OutputOption = Path("ckdiff.h5"),
    output_format: FormatOption = Format.TABLE,
    show_questions: ShowOption = 0,
    hashes: HashOption = True,
    adapter_base: AdapterBaseOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Where the effect lives: put base states back, a few layers at a time, and see how much returns."""
    from ckdiff import probe_command as command
    from ckdiff.api import ProbeSpec
    from ckdiff.probes.settings import DEFAULT_TEMPLATE, Settings

    settings = Settings(
        modes=command.modes(mode),
        variants=command.variants(variant),
        directions=command.directions(direction),
        window=window,
        layers=None if layers is None else command.layer_numbers(layers),
        tokens=tokens,
        template=DEFAULT_TEMPLATE if prompt_template is None else command.unescaped(prompt_template),
        chat=chat_template,
        given_answers=given_answers,
        kl=kl,
        dtype=dtype,
        device=device,
        stream=stream,  # type: ignore[arg-type]  # checked with the others
        batch_size=batch_size,
        tokenizer=tokenizer,
        neurons=neurons,
        neuron_goal=neuron_goal,
    )
    settings.check()
    existing, pair = command.pair_and_report(base, unlearned, output, overwrite)
    spec = ProbeSpec(*pair, questions, tuple(question or ()), concept, unrelated, settings, hashes, adapter_base)
    command.set_threads(threads)
    if plan:
        from ckdiff.api import outline

        sys.stdout.write(command.outline_text(outline(spec)))
        return
    report = command.run(spec, existing, output, resume, quiet, remark)
    present(report, output_format, 10, "probe", show_questions)
    remark(f"report: {output}", quiet)
    raise typer.Exit(command.verdict(report, remark))


@app.command()
def behave(
    base: PairBaseArgument = None,
    unlearned: PairUnlearnedArgument = None,
    questions: Annotated[
        Path | None,
        typer.Option(
            "--questions",
            "-Q",
            help="Questions about what was to be unlearned: text, JSON or JSONL.",
            rich_help_panel=ASKED,
        ),
    ] = None,
    question: Annotated[
        list[str] | None, typer.Option("--question", help="Such a question; may be repeated.", rich_help_panel=ASKED)
    ] = None,
    concept: ConceptOption = None,
    unrelated: Annotated[
        Path | None,
        typer.Option(
            "--unrelated",
            help="A file of other questions; else the concept's own, else general ones.",
            rich_help_panel=ASKED,
        ),
    ] = None,
    most_unrelated: Annotated[
        int, typer.Option("--most-unrelated", min=1, help="How many of them are asked.", rich_help_panel=ASKED)
    ] = 50,
    choices: Annotated[
        Path | None,
        typer.Option("--choices", help="Multiple-choice questions (WMDP, MMLU), JSON or JSONL.", rich_help_panel=ASKED),
    ] = None,
    neutral: Annotated[
        Path | None,
        typer.Option("--neutral", help="A file of neutral texts; else ckdiff's own.", rich_help_panel=ASKED),
    ] = None,
    no_neutral: Annotated[
        bool, typer.Option("--no-neutral", help="Leave neutral texts out.", rich_help_panel=ASKED)
    ] = False,
    tokens: Annotated[int, typer.Option("--tokens", help="The most tokens of an answer.", rich_help_panel=ASKED)] = 30,
    prompt_template: TemplateOption = None,
    chat_template: ChatOption = False,
    tokenizer: TokenizerOption = None,
    stream: StreamOption = "auto",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    batch_size: BatchOption = 32,
    threads: ThreadsOption = 0,
    output: OutputOption = Path("ckdiff.h5"),
    output_format: FormatOption = Format.TABLE,
    show_questions: ShowOption = 5,
    hashes: HashOption = True,
    adapter_base: AdapterBaseOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """What both models say: target and unrelated questions, multiple choice and neutral text."""
    from ckdiff import behave_command as command
    from ckdiff import probe_command as shared
    from ckdiff.api import BehaveSpec
    from ckdiff.probes.settings import DEFAULT_TEMPLATE, Settings

    if neutral is not None and no_neutral:
        raise CkdiffError("--neutral and --no-neutral: give one of them")
    settings = Settings(
        tokens=tokens,
        template=DEFAULT_TEMPLATE if prompt_template is None else shared.unescaped(prompt_template),
        chat=chat_template,
        dtype=dtype,
        device=device,
        stream=stream,  # type: ignore[arg-type]  # checked with the others
        batch_size=batch_size,
        tokenizer=tokenizer,
    )
    settings.check()
    existing, pair = shared.pair_and_report(base, unlearned, output, overwrite, "behave")
    spec = BehaveSpec(
        *pair,
        questions=questions,
        asked=tuple(question or ()),
        concept=concept,
        unrelated=unrelated,
        most_unrelated=most_unrelated,
        choices=choices,
        neutral=not no_neutral if neutral is None else neutral,
        settings=settings,
        hash=hashes,
        adapter_base=adapter_base,
    )
    shared.set_threads(threads)
    report = command.run(spec, existing, output, quiet, remark)
    present(report, output_format, 10, "behaviour", show_questions)
    remark(f"report: {output}", quiet)
    raise typer.Exit(command.verdict(report, remark))


@app.command()
def figure(
    reports: Annotated[
        list[Path], typer.Argument(help="A report with a probe, reports with behaviour, or a campaign.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="An .svg, .png or .pdf file.")] = Path("ckdiff.svg"),
    kind: Annotated[
        str | None, typer.Option("--kind", help="probe or behaviour; else the probe where there is one.")
    ] = None,
    score: Annotated[str | None, typer.Option("--score", help="krs_kl, krs_centred or krs; else all three.")] = None,
    variant: Annotated[
        str | None, typer.Option("--variant", help="Of a campaign: open, isolated, ...; else all that it has.")
    ] = None,
    direction: Annotated[
        str | None, typer.Option("--direction", help="Of a campaign: restore or break; else all that it has.")
    ] = None,
) -> None:
    """Draw a probe (score against layer, with intervals), the behaviour of pairs, or the averages of a campaign."""
    from ckdiff.behave_command import figure as draw

    draw(reports, output, kind, score, variant, direction)
    remark(f"figure: {output}", quiet=False)


@app.command()
def show(
    report: Annotated[Path, typer.Argument(help="A report that ckdiff has written.")],
    output_format: FormatOption = Format.TABLE,
    top: TopOption = 10,
    section: Annotated[
        str | None,
        typer.Option("--section", help="compare, probe, behaviour or verdict: only that part of the table or CSV."),
    ] = None,
    show_questions: ShowOption = 0,
) -> None:
    """Show a report again, as it was printed or in another format."""
    from ckdiff.report.campaign_schema import Campaign
    from ckdiff.report.hdf5 import read_any

    if section is not None and section not in SECTIONS:
        raise CkdiffError(f"--section: no {section!r}; there are {', '.join(SECTIONS)}")
    found = read_any(report)
    if isinstance(found, Campaign):
        if section is not None:
            raise CkdiffError(f"{report}: holds a campaign, which has no sections; leave --section away")
        present_campaign(found, output_format)
        return
    held = sections(found)
    if section is not None and section not in held:
        raise CkdiffError(f"{report}: holds no {section}; `ckdiff {SECTIONS[section]}` puts one in")
    if output_format is Format.CSV and section is None and len(held) > 1:
        others = " or ".join(f"--section {name}" for name in held[1:])
        remark(f"one table only: {others} for the other{'s' if len(held) > 2 else ''}", quiet=False)
    present(found, output_format, top, section, show_questions)


@app.command()
def inspect(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint: directory, file, index, adapter, or hub id@rev.")],
    adapter_base: AdapterBaseOption = None,
) -> None:
    """What a checkpoint holds, by component; reads headers only."""
    from ckdiff.api import inspect as look
    from ckdiff.report.tables import inspect_view

    found = look(checkpoint, adapter_base)
    output(inspect_view(found.location, found.model_type, found.rows, found.shards, found.notes))


app.command()(audit)
app.command()(gate)
app.command()(attest)
app.command()(verify)
app.command()(unlearn)
app.command()(campaign)
app.command()(gather)
app.command("html")(html)
app.command()(corpus)
app.command()(demo)


def verdict(report: Report, exit_code: bool) -> ExitStatus:
    """The exit status of a comparison: nothing compared is inconclusive, never "no drift"."""
    comparison = report.compare
    if comparison is None or not comparison.tensors:
        return ExitStatus.INCONCLUSIVE
    unequal = any(not row.drift.identical for row in comparison.tensors)
    unmatched = comparison.only_in_base or comparison.only_in_unlearned or comparison.shape_mismatch
    if exit_code and (unequal or unmatched or comparison.config_changes):
        return ExitStatus.DIFFERS
    return ExitStatus.OK


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with a status of `ExitStatus`."""
    sys.unraisablehook = lost_interrupt
    status = run(arguments)
    # Python remembers a KeyboardInterrupt that passed through an `exec`, as in the making of a dataclass, and would
    # then die of the signal instead of exiting with a status; the next `exec` makes it forget.
    exec("")
    # The work is done and said: a late Ctrl-C must not turn a finished run into a killed one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


def lost_interrupt(lost: sys.UnraisableHookArgs) -> None:
    """Send a Ctrl-C again that came where Python can only drop it (a weak reference's callback, a `__del__`)."""
    if not isinstance(lost.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    import threading

    again = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    again.daemon = True
    again.start()


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; what a user can mend is one line on stderr, only a bug shows a traceback."""
    # One BLAS thread, before NumPy is imported: blocks are small, and spinning threads cost more than they give.
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    # torch's threads wait for each other in a loop. Beside another busy process long loops made a probe six times
    # slower, and short ones cost nothing on an idle machine.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    # A stream that was closed before we began (`>&-`) is None.
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character gets its escape, never a traceback.
            stream.reconfigure(errors="backslashreplace")
    try:
        result: Any = typer.main.get_command(app).main(arguments, prog_name="ckdiff", standalone_mode=False)
        sys.stdout.flush()
        # typer turns a KeyboardInterrupt into this status itself.
        return fail("interrupted", INTERRUPTED) if result == INTERRUPTED else int(result or 0)
    except CkdiffError as error:
        return fail(str(error), error.exit_status)
    except (KeyboardInterrupt, typer.Abort):
        return fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing is wrong, and nothing more can be said on stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.OK
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return bug()
        return fail(f"cannot write: {error.strerror}; free some disk", ExitStatus.USAGE)
    except MemoryError:
        return fail("not enough memory; close other programs or use a machine with more", ExitStatus.USAGE)
    except Exception as error:
        # Usage errors are click's, which some versions of typer carry inside themselves: known by what they can do.
        if hasattr(error, "format_message"):
            return fail(error.format_message(), ExitStatus.USAGE)
        return bug()


def bug() -> int:
    """The traceback of what is being handled, and the status of a bug."""
    import traceback

    traceback.print_exc()
    return fail("this is a bug in ckdiff; please report it with the lines above", ExitStatus.BUG)


def fail(message: str, status: int) -> int:
    """One line on stderr, whatever the message holds, and the status."""
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in message)
    sys.stderr.write(f"ckdiff: {line}\n")
    return int(status)


if __name__ == "__main__":
    main()
