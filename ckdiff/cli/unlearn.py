"""`ckdiff unlearn`: options become a recipe, Ctrl-C a clean stop, and what was made is said.

Part of the door: it parses, calls `ckdiff.unlearn`, and presents.
"""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckdiff.cli.console import output, remark
from ckdiff.cli.options import QuietOption
from ckdiff.cli.session import enough_disk, enough_memory, listening, set_threads
from ckdiff.cli.values import OptionError, unescaped
from ckdiff.errors import ExitStatus

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckdiff.unlearn.recipe import UnlearnSpec
    from ckdiff.unlearn.unlearn import Made


TEXTS, LOSS, TRAINING, NEEDLE, MEASURED = (
    "What is forgotten, and what is kept",
    "The loss",
    "Training",
    "Needle",
    "What is measured",
)
"""Groups of the options of `unlearn --help`."""


LESS = "a smaller --batch-size with more --accumulation, --checkpointing, or a smaller --length"
"""What makes a training smaller."""


class MadeFormat(StrEnum):
    """What stdout carries."""

    TABLE = "table"
    JSON = "json"


def unlearn(
    base: Annotated[str, typer.Argument(help="The model to unlearn from: a plain checkpoint of 16 or 32 bits.")],
    target: Annotated[Path, typer.Option("--output", "-o", help="The checkpoint directory to make.")],
    method: Annotated[
        str, typer.Option("--method", "-m", help="graddiff, dpo, npo, npo_kl, grad_ascent or needle.")
    ] = "graddiff",
    forget: Annotated[
        Path | None,
        typer.Option("--forget", "-F", help="Texts: ConceptVectors, text, JSON, CSV, parquet.", rich_help_panel=TEXTS),
    ] = None,
    concept: Annotated[
        str | None, typer.Option("--concept", help="Which concept of the files.", rich_help_panel=TEXTS)
    ] = None,
    retain: Annotated[
        Path | None,
        typer.Option("--retain", help="Texts to keep; else those of --forget's other concepts.", rich_help_panel=TEXTS),
    ] = None,
    train_on: Annotated[
        str,
        typer.Option(
            "--train-on",
            help="text, answers (the base's own to the target questions), or both.",
            rich_help_panel=TEXTS,
        ),
    ] = "text",
    most: Annotated[int, typer.Option("--most", min=1, help="Texts taken of a file.", rich_help_panel=TEXTS)] = 6000,
    length: Annotated[int, typer.Option("--length", help="Tokens of a text, at most.", rich_help_panel=TEXTS)] = 500,
    retain_loss: Annotated[
        str, typer.Option("--retain-loss", help="kl, ce or none; else the method's own.", rich_help_panel=LOSS)
    ] = "default",
    retain_weight: Annotated[
        float | None, typer.Option("--retain-weight", help="Else 1 for kl, 1.5 for ce.", rich_help_panel=LOSS)
    ] = None,
    beta: Annotated[float, typer.Option("--beta", help="Of DPO and NPO.", rich_help_panel=LOSS)] = 0.1,
    preferred: Annotated[
        str, typer.Option("--preferred", help="What DPO prefers: refusal or retain text.", rich_help_panel=LOSS)
    ] = "refusal",
    limit: Annotated[
        float | None,
        typer.Option(
            "--ascent-limit", help="Leave a token alone once its loss is above this (nats).", rich_help_panel=LOSS
        ),
    ] = None,
    lr: Annotated[
        float | None, typer.Option("--lr", help="Learning rate; else the method's own.", rich_help_panel=TRAINING)
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", help="Passes over the texts.", rich_help_panel=TRAINING)] = 10,
    steps: Annotated[int, typer.Option("--steps", help="Steps, instead of epochs.", rich_help_panel=TRAINING)] = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Texts a forward.", rich_help_panel=TRAINING)] = 8,
    accumulation: Annotated[int, typer.Option("--accumulation", help="Forwards a step.", rich_help_panel=TRAINING)] = 2,
    weight_decay: Annotated[float, typer.Option("--weight-decay", rich_help_panel=TRAINING)] = 0.01,
    warmup: Annotated[
        int | None, typer.Option("--warmup", help="Steps; else one epoch's.", rich_help_panel=TRAINING)
    ] = None,
    optimizer: Annotated[
        str, typer.Option("--optimizer", help="adamw, adafactor or sgd.", rich_help_panel=TRAINING)
    ] = "adamw",
    precision: Annotated[
        str, typer.Option("--precision", help="float32, bfloat16 or float16.", rich_help_panel=TRAINING)
    ] = "float32",
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Less memory, a third more time.", rich_help_panel=TRAINING)
    ] = False,
    seed: Annotated[int, typer.Option("--seed", rich_help_panel=TRAINING)] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.", rich_help_panel=TRAINING)] = "auto",
    threads: Annotated[
        int, typer.Option("--threads", min=0, max=1024, help="CPU threads; 0: all.", rich_help_panel=TRAINING)
    ] = 0,
    questions: Annotated[
        Path | None,
        typer.Option("--questions", "-Q", help="Target questions; else those of --forget.", rich_help_panel=MEASURED),
    ] = None,
    unrelated: Annotated[
        Path | None, typer.Option("--unrelated", help="Unrelated questions.", rich_help_panel=MEASURED)
    ] = None,
    most_unrelated: Annotated[
        int, typer.Option("--most-unrelated", min=1, help="How many of them are asked.", rich_help_panel=MEASURED)
    ] = 50,
    tokens: Annotated[int, typer.Option("--tokens", help="Of an answer.", rich_help_panel=MEASURED)] = 30,
    prompt_template: Annotated[
        str | None, typer.Option("--prompt-template", help="Text around {q}.", rich_help_panel=MEASURED)
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", help="A directory with one, if the base has none.", rich_help_panel=MEASURED),
    ] = None,
    eval_steps: Annotated[
        int, typer.Option("--eval-steps", help="Steps between measurements; else epochs.", rich_help_panel=MEASURED)
    ] = 0,
    stop_when: Annotated[
        list[str] | None,
        typer.Option("--stop-when", help="Such as 'target_bleu<0.15'; may be repeated.", rich_help_panel=MEASURED),
    ] = None,
    neurons: Annotated[
        str | None, typer.Option("--neurons", help="layer:neuron, ...; else random ones.", rich_help_panel=NEEDLE)
    ] = None,
    count: Annotated[int, typer.Option("--count", help="Random neurons.", rich_help_panel=NEEDLE)] = 1,
    noise: Annotated[
        float, typer.Option("--noise", help="Standard deviation of the noise.", rich_help_panel=NEEDLE)
    ] = 0.1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted training.")] = False,
    output_format: Annotated[
        MadeFormat, typer.Option("--format", "-f", help="What to print on stdout.")
    ] = MadeFormat.TABLE,
    quiet: QuietOption = False,
) -> None:
    """Make a pair: unlearn a concept from BASE, measuring what the saved checkpoint still answers."""
    from ckdiff.scoring.settings import DEFAULT_TEMPLATE
    from ckdiff.unlearn.recipe import Recipe, UnlearnSpec
    from ckdiff.unlearn.recipe import stop_when as condition

    recipe = Recipe(
        method=method,
        train_on=train_on,
        preferred=preferred,
        retain_loss=retain_loss,
        retain_weight=retain_weight,
        lr=lr,
        beta=beta,
        limit=limit,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        accumulation=accumulation,
        length=length,
        weight_decay=weight_decay,
        warmup=warmup,
        optimizer=optimizer,
        precision=precision,
        checkpointing=checkpointing,
        evaluate_every=eval_steps,
        stop_when=tuple(condition(text) for text in stop_when or ()),
        seed=seed,
        tokens=tokens,
        template=DEFAULT_TEMPLATE if prompt_template is None else unescaped(prompt_template),
        device=device,
        tokenizer=tokenizer,
        neurons=neuron_pairs(neurons) if neurons is not None else (),
        count=count,
        noise=noise,
    )
    recipe.check()
    spec = UnlearnSpec(base, target, forget, concept, retain, questions, unrelated, most_unrelated, most, recipe)
    set_threads(threads)
    made = run(spec, resume, quiet)
    if output_format is MadeFormat.JSON:
        sys.stdout.write(json.dumps(made.record, indent=1) + "\n")
    else:
        output(made_view(made))
    remark(f"checkpoint: {made.output}", quiet)
    if made.diverged:
        remark(f"ckdiff: {made.diverged}; what was saved is from step {made.record['history'][-1]['step']}", False)
        raise typer.Exit(ExitStatus.INCONCLUSIVE)
    if made.unchanged:
        remark("ckdiff: inconclusive: what was saved is the base, bit for bit; take more steps, or raise --lr", False)
        raise typer.Exit(ExitStatus.INCONCLUSIVE)
    if recipe.stop_when and not made.record["stopped"]:
        remark(f"no --stop-when came true: {', '.join(map(str, recipe.stop_when))}", quiet)


def neuron_pairs(text: str) -> tuple[tuple[int, int], ...]:
    """The value of `--neurons`.

    >>> neuron_pairs("3:17, 4:0")
    ((3, 17), (4, 0))
    """
    found = []
    for part in text.split(","):
        layer, colon, neuron = (piece.strip() for piece in part.partition(":"))
        if not colon or not all(one.isascii() and one.isdigit() and len(one) < 10 for one in (layer, neuron)):
            raise OptionError(f"--neurons: {part.strip()[:40]!r} is not layer:neuron; write 3:17,4:0")
        found.append((int(layer), int(neuron)))
    return tuple(found)


def run(spec: UnlearnSpec, resume: bool, quiet: bool) -> Made:
    """Unlearn, with progress and a clean stop.

    Raises:
        KeyboardInterrupt: Ctrl-C; what is done is kept.
    """
    from ckdiff.calls.unlearn import make_unlearned
    from ckdiff.unlearn.unlearn import UnlearningStopped

    try:
        with enough_disk(), enough_memory(LESS), listening(quiet, remark) as listener:
            return make_unlearned(spec, listener, resume)
    except UnlearningStopped:
        remark("what is done is kept; the same command with --resume goes on", quiet)
        raise KeyboardInterrupt from None


def made_view(made: Made) -> RenderableType:
    """What was made: the method, how far it went, and what memory and the saved checkpoint answer."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from ckdiff.untrusted import printable

    record = made.record
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title_justify="left", title_style="bold")
    table.title = Text(f"{record['method']}: {record['stopped'] or 'ran to its end'}")
    for name in ("step", "epoch", "loss", "target BLEU", "unrelated BLEU"):
        table.add_column(name, justify="right")
    table.add_column("weights")
    for point in record["history"]:
        table.add_row(*(_number(point[name]) for name in POINT), _state(point["state"]))
    notes = [Text(f" - {printable(note)}") for note in record["notes"]]
    return Group(*([table] if record["history"] else [table.title]), *notes)


POINT = ("step", "epoch", "loss", "target_bleu", "unrelated_bleu")


def _number(value: Any) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}"


def _state(state: str) -> str:
    return "in memory" if state == "memory" else "as saved"
