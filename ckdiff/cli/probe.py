"""`ckdiff probe`: where the effect lives."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ckdiff.cli.console import (
    drops_verdict,
    outline_text,
    present,
    remark,
)
from ckdiff.cli.options import (
    ASKED,
    RESTORED,
    RUNS,
    TABLE,
    AdapterBaseOption,
    BatchOption,
    ChatOption,
    ConceptOption,
    DeviceOption,
    DtypeOption,
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
)
from ckdiff.cli.session import (
    LESS,
    Remark,
    enough_memory,
    identity,
    listening,
    only_writer,
    pair_and_report,
    set_threads,
)
from ckdiff.cli.values import directions, layer_numbers, modes, unescaped, variants
from ckdiff.errors import ExitStatus
from ckdiff.modes import MODES, VARIANTS

if TYPE_CHECKING:
    from ckdiff.calls.specs import ProbeSpec
    from ckdiff.report.schema.report import Report


def probe(
    base: PairBaseArgument = None,
    unlearned: PairUnlearnedArgument = None,
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            "-m",
            help=f"What is put back: {', '.join(MODES)}, or all.",
            rich_help_panel=RESTORED,
        ),
    ] = "coeff",
    variant: Annotated[
        str,
        typer.Option(
            "--variant",
            help=f"What else is held still: {', '.join(VARIANTS)}, or all.",
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
        typer.Option("--questions", "-Q", help="A file of questions: text, JSON, CSV, parquet.", rich_help_panel=ASKED),
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
    output_format: FormatOption = TABLE,
    show_questions: ShowOption = 0,
    hashes: HashOption = True,
    adapter_base: AdapterBaseOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Where the effect lives: put base states back, a few layers at a time, and see how much returns."""
    from ckdiff.calls.specs import ProbeSpec
    from ckdiff.scoring.settings import DEFAULT_TEMPLATE, Settings

    settings = Settings(
        modes=modes(mode),
        variants=variants(variant),
        directions=directions(direction),
        window=window,
        layers=None if layers is None else layer_numbers(layers),
        tokens=tokens,
        template=DEFAULT_TEMPLATE if prompt_template is None else unescaped(prompt_template),
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
    existing, pair = pair_and_report(base, unlearned, output, overwrite)
    spec = ProbeSpec(*pair, questions, tuple(question or ()), concept, unrelated, settings, hashes, adapter_base)
    set_threads(threads)
    if plan:
        from ckdiff.calls.probe import outline

        sys.stdout.write(outline_text(outline(spec)))
        return
    report = run(spec, existing, output, resume, quiet, remark)
    present(report, output_format, 10, "probe", show_questions)
    remark(f"report: {output}", quiet)
    raise typer.Exit(verdict(report, remark))


def run(spec: ProbeSpec, existing: Report | None, output: Path, resume: bool, quiet: bool, remark: Remark) -> Report:
    """Probe, and write the report; what another command has written into it meanwhile stays there.

    Raises:
        KeyboardInterrupt: Ctrl-C; the report is as it was.
    """
    from ckdiff.calls.merge import comparable, merged
    from ckdiff.calls.probe import probe
    from ckdiff.probes import kept_sweep as partial
    from ckdiff.progress import Stopped
    from ckdiff.report.hdf5.file import read_report, write_report

    there = identity(output)
    place = partial.place(output)
    if place.exists() and not resume:
        remark(
            f"{place}: an interrupted probe is there and will be discarded; stop, and use --resume to go on with it",
            quiet,
        )
    try:
        with enough_memory(LESS), listening(quiet, remark) as listener:
            report = probe(spec, listener, existing, place, resume)
    except Stopped:
        remark("what is done is kept; the same command with --resume goes on", quiet)
        raise KeyboardInterrupt from None
    with only_writer(output):
        if identity(output) != there:
            existing = read_report(output)
            report = merged(existing, report)
        older = existing.probe if existing is not None else None
        if older is not None and report.probe is not None and not comparable(older, report.probe):
            remark(f"{output}: its earlier probe asked otherwise and is replaced", quiet)
        drops_verdict(existing, output, quiet)
        write_report(report, output)
    partial.remove(place)
    return report


def verdict(report: Report, remark: Remark) -> ExitStatus:
    """The exit status of a probe: scores that rest on nothing are inconclusive."""
    from ckdiff.report.words.probe import inconclusive

    reason = inconclusive(report.probe) if report.probe is not None else "nothing was measured"
    if reason:
        remark(f"ckdiff: inconclusive: {reason}", False)
        return ExitStatus.INCONCLUSIVE
    return ExitStatus.OK
