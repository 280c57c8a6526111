"""`ckdiff behave`: what both models say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ckdiff.cli.console import (
    drops_verdict,
    present,
    remark,
)
from ckdiff.cli.options import (
    ASKED,
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
from ckdiff.cli.session import LESS, enough_memory, identity, listening, only_writer, pair_and_report, set_threads
from ckdiff.cli.values import unescaped
from ckdiff.errors import CkdiffError, ExitStatus

if TYPE_CHECKING:
    from ckdiff.calls.specs import BehaveSpec
    from ckdiff.cli.session import Remark
    from ckdiff.report.schema.behaviour import Behaviour
    from ckdiff.report.schema.report import Report


def behave(
    base: PairBaseArgument = None,
    unlearned: PairUnlearnedArgument = None,
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
        typer.Option("--choices", help="Multiple-choice questions: WMDP, MMLU, others.", rich_help_panel=ASKED),
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
    output_format: FormatOption = TABLE,
    show_questions: ShowOption = 5,
    hashes: HashOption = True,
    adapter_base: AdapterBaseOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """What both models say: target and unrelated questions, multiple choice and neutral text."""
    from ckdiff.calls.specs import BehaveSpec
    from ckdiff.scoring.settings import DEFAULT_TEMPLATE, Settings

    if neutral is not None and no_neutral:
        raise CkdiffError("--neutral and --no-neutral: give one of them")
    settings = Settings(
        tokens=tokens,
        template=DEFAULT_TEMPLATE if prompt_template is None else unescaped(prompt_template),
        chat=chat_template,
        dtype=dtype,
        device=device,
        stream=stream,  # type: ignore[arg-type]  # checked with the others
        batch_size=batch_size,
        tokenizer=tokenizer,
    )
    settings.check()
    existing, pair = pair_and_report(base, unlearned, output, overwrite, "behave")
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
    set_threads(threads)
    report = run(spec, existing, output, quiet, remark)
    present(report, output_format, 10, "behaviour", show_questions)
    remark(f"report: {output}", quiet)
    raise typer.Exit(verdict(report, remark))


def run(spec: BehaveSpec, existing: Report | None, output: Path, quiet: bool, remark: Remark) -> Report:
    """Ask both models, and write the report; what another command has written into it meanwhile stays there.

    Raises:
        KeyboardInterrupt: Ctrl-C; the report is as it was.
    """
    from ckdiff.calls.behave import behave
    from ckdiff.calls.merge import joined
    from ckdiff.report.hdf5.file import read_report, write_report

    there = identity(output)
    with enough_memory(LESS), listening(quiet, remark) as listener:
        report = behave(spec, listener, existing)
    with only_writer(output):
        if identity(output) != there:
            existing = read_report(output)
            report = joined(existing, report)
        older = existing.behaviour if existing is not None else None
        if older is not None and report.behaviour is not None and asked(older) != asked(report.behaviour):
            remark(f"{output}: its earlier answers were to other questions or settings and are replaced", quiet)
        drops_verdict(existing, output, quiet)
        write_report(report, output)
    return report


def asked(found: Behaviour) -> tuple[object, ...]:
    """What determines the answers: questions by digest, and settings."""
    parts = (*found.answers, found.choices, found.neutral)
    return (dict(found.settings), *(None if part is None else part.digest for part in parts))


def verdict(report: Report, remark: Remark) -> ExitStatus:
    """The exit status: with nothing measured, nothing can be said."""
    found = report.behaviour
    if found is None or not (found.answers or found.choices or found.neutral):
        remark("ckdiff: inconclusive: nothing was measured", False)
        return ExitStatus.INCONCLUSIVE
    return ExitStatus.OK
