"""What the commands of the door share: options, and the only functions that print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ckdiff.report.formats import FORMATS

RESTORED, ASKED, RUNS = "What is restored", "Questions and answers", "How it runs"
"""Groups of the options of `probe` and `behave`."""


def known_format(name: str) -> str:
    """The name of a format; any other is refused."""
    if name not in FORMATS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(map(repr, FORMATS))}.")
    return name


FormatOption = Annotated[
    str,
    typer.Option(
        "--format",
        "-f",
        help="What to print on stdout.",
        metavar=f"[{'|'.join(FORMATS)}]",
        callback=known_format,
        autocompletion=lambda: list(FORMATS),
    ),
]


TABLE = next(iter(FORMATS))
"""What people get unasked."""


TopOption = Annotated[int, typer.Option("--top", min=0, help="How many tensors and neurons the table lists.")]


BaseArgument = Annotated[str, typer.Argument(help="The model before: directory, file, index, adapter, or hub id@rev.")]


UnlearnedArgument = Annotated[str, typer.Argument(help="The model after.")]


OutputOption = Annotated[Path, typer.Option("--output", "-o", help="The HDF5 report to write.")]


HashOption = Annotated[bool, typer.Option("--hash/--no-hash", help="sha256 of every weight file, in the report.")]


OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace whatever is at --output, another pair's report too.")
]


QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks on stderr.")]


AdapterBaseOption = Annotated[
    str | None, typer.Option("--adapter-base", help="Base model of a LoRA adapter whose config names none.")
]


ConceptOption = Annotated[
    str | None, typer.Option("--concept", help="Which concept or subject of the file.", rich_help_panel=ASKED)
]


TemplateOption = Annotated[
    str | None,
    typer.Option("--prompt-template", help="Text around {q}; else 'Question: {q}\\n Answer:'.", rich_help_panel=ASKED),
]


ChatOption = Annotated[
    bool, typer.Option("--chat-template", help="Use the tokenizer's chat template.", rich_help_panel=ASKED)
]


TokenizerOption = Annotated[
    Path | None,
    typer.Option("--tokenizer", help="A directory with a tokenizer, where the base has none.", rich_help_panel=ASKED),
]


StreamOption = Annotated[
    str, typer.Option("--stream", help="One layer in memory at a time: auto, on or off.", rich_help_panel=RUNS)
]


DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.", rich_help_panel=RUNS)]


DtypeOption = Annotated[
    str, typer.Option("--dtype", help="float32, float64, bfloat16 or float16.", rich_help_panel=RUNS)
]


BatchOption = Annotated[
    int, typer.Option("--batch-size", help="Questions that go through a layer together.", rich_help_panel=RUNS)
]


ThreadsOption = Annotated[
    int, typer.Option("--threads", min=0, max=1024, help="CPU threads; 0: all that are there.", rich_help_panel=RUNS)
]


ShowOption = Annotated[
    int, typer.Option("--show-questions", min=0, help="How many questions and answers the table lists.")
]


PairBaseArgument = Annotated[str | None, typer.Argument(help="The model before; without it, the pair of the report.")]


PairUnlearnedArgument = Annotated[str | None, typer.Argument(help="The model after.")]


POLICY = "What is asked of the pair"


PolicyOption = Annotated[
    Path | None,
    typer.Option("--policy", "-p", help="A TOML file; without it ckdiff's own policy.", rich_help_panel=POLICY),
]
