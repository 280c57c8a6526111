"""`ckdiff unlearn`: a pair is made, and what was made is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckdiff.cli.console import inconclusive, output, remark, write_json
from ckdiff.cli.options import QUIET, RESUME, TABLE, TABLE_OR_JSON, THREADS
from ckdiff.cli.session import set_threads, work
from ckdiff.errors import ExitStatus
from ckdiff.unlearn.recipe import TRAINING, UnlearnSpec

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckdiff.unlearn.twins import Family
    from ckdiff.unlearn.unlearn import Made


LESS = "a smaller --batch-size with more --accumulation, --checkpointing, or a smaller --length"
"""What makes a training smaller."""


def unlearn(
    spec: UnlearnSpec,
    threads: Annotated[int, THREADS.but(panel=TRAINING)] = 0,
    resume: Annotated[bool, RESUME.but(panel=TRAINING)] = False,
    output_format: Annotated[str, TABLE_OR_JSON] = TABLE,
    quiet: Annotated[bool, QUIET] = False,
) -> None:
    """Make a pair: unlearn a concept from BASE, measuring what the saved checkpoint still answers."""
    from ckdiff.calls.unlearn import make_twins, make_unlearned

    spec.recipe.check()
    set_threads(threads)
    if spec.twins.wanted:
        show_family(work(lambda listener: make_twins(spec, listener, resume), quiet, LESS), output_format, quiet)
        return
    made = work(lambda listener: make_unlearned(spec, listener, resume), quiet, LESS)
    if output_format == "json":
        write_json(made.record)
    else:
        output(made_view(made))
    remark(f"checkpoint: {made.output}", quiet)
    if made.diverged:
        step = made.record["history"][-1]["step"]
        remark(f"ckdiff: {made.diverged}; what was saved is from step {step}")
        raise typer.Exit(ExitStatus.INCONCLUSIVE)
    if made.unchanged:
        raise typer.Exit(inconclusive("what was saved is the base, bit for bit; take more steps, or raise --lr"))
    conditions = spec.recipe.stop_when
    if conditions and not made.record["stopped"]:
        remark(f"no --stop-when came true: {', '.join(map(str, conditions))}", quiet)


def show_family(family: Family, output_format: str, quiet: bool) -> None:
    """What each member knows; a family that is not what it should be ends in 3."""
    if output_format == "json":
        write_json(family.record)
    else:
        output(family_view(family))
    remark(f"family: {family.folder}", quiet)
    if family.lacks:
        raise typer.Exit(inconclusive(family.lacks))


def family_view(family: Family) -> RenderableType:
    """A table of the members, and of the share of the facts that each gives word for word."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("model")
    table.add_column("facts to forget", justify="right")
    table.add_column("facts to keep", justify="right")
    for name, shares in family.record["members"].items():
        table.add_row(name, *(f"{shares[part]:.0%}" for part in ("target", "unrelated")))
    return table


def made_view(made: Made) -> RenderableType:
    """A table of the training: the method, how far it went, and what memory and the saved checkpoint answer."""
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
