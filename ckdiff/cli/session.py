"""What commands that run long share: progress, a clean Ctrl-C, one writer at a time, lines for memory and disk."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from ckdiff.cli.values import OptionError
from ckdiff.errors import is_out_of_memory
from ckdiff.locks import alone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ckdiff.progress import Listener
    from ckdiff.report.schema.report import Report


Remark = Any
"""`cli.remark`: (text, quiet) -> one line on stderr."""


NO_DISK = ("No space left on device", "PytorchStreamWriter failed", "Disk quota exceeded")
"""How torch and safetensors say that a disk is full."""


STOPPABLE = {"layers": "layer", "neurons": "layer", "training": "step"}
"""Stages of long work that can stop cleanly, and after what."""


LESS = "--stream on, a smaller --batch-size, or fewer questions"
"""What makes a probe smaller."""


def pair_and_report(
    base: str | None, unlearned: str | None, output: Path, overwrite: bool, command: str = "probe"
) -> tuple[Report | None, tuple[str, str]]:
    """The report that a command's results go into, or None, and the two checkpoints.

    Raises:
        CkdiffError: one checkpoint alone, no pair to be found, or a report of another pair.
    """
    from ckdiff.report.hdf5.file import check_writable, read_report

    if (base is None) != (unlearned is None):
        raise OptionError(f"{command}: give BASE and UNLEARNED, or neither to take the pair of the report")
    check_writable(output)
    if base is None or unlearned is None:
        existing = read_report(output)
        sides = existing.provenance.base, existing.provenance.unlearned
        found = tuple(side.location + (f"@{side.revision}" if side.revision else "") for side in sides)
        return existing, (found[0], found[1])
    if overwrite or not output.exists():
        return None, (base, unlearned)
    return read_report(output), (base, unlearned)


def set_threads(count: int) -> None:
    """Threads of torch; the door has told BLAS libraries to use one, for the sake of NumPy's small blocks."""
    import torch

    if count == 0:
        given = os.environ.get("OMP_NUM_THREADS", "")
        there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        count = int(given) if given.isdigit() and int(given) else there
    torch.set_num_threads(count)


@contextlib.contextmanager
def enough_memory(remedy: str) -> Iterator[None]:
    """Say in one line that memory ran out, however torch said it; `remedy` is what to try."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OptionError(f"not enough memory; use {remedy}") from error


@contextlib.contextmanager
def enough_disk() -> Iterator[None]:
    """Say in one line that the disk is full, however torch or safetensors said it."""
    try:
        yield
    except Exception as error:
        if not any(word in str(error) for word in NO_DISK):
            raise
        raise OptionError("cannot write: no space left on the disk; free some, or name another place") from error


def only_writer(output: Path) -> contextlib.AbstractContextManager[None]:
    """Nobody else reads, merges and replaces a report in this place meanwhile."""
    return alone(output.absolute().parent)


def identity(path: Path) -> tuple[int, int] | None:
    """What changes when a report is replaced: its inode and its time."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


@contextlib.contextmanager
def listening(quiet: bool, remark: Remark) -> Iterator[Listener]:
    """Progress on a terminal, and Ctrl-C: in long work the first one stops cleanly, a second one at once."""
    from ckdiff.progress import Listener

    asked: list[int] = []
    stage = [""]

    def interrupt(number: int, frame: Any) -> None:
        if asked or stage[0] not in STOPPABLE:
            raise KeyboardInterrupt
        asked.append(number)
        remark(f"stopping after this {STOPPABLE[stage[0]]}; Ctrl-C again stops at once", quiet)

    with _bars(quiet) as show:

        def progress(name: str, done: int, total: int, detail: str) -> None:
            stage[0] = name if done < total else ""
            show(name, done, total, detail)

        # A batch scheduler says SIGTERM, and gives some seconds before it kills.
        before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield Listener(progress, lambda: bool(asked), lambda text: remark(text, quiet))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _bars(quiet: bool) -> Iterator[Callable[[str, int, int, str], None]]:
    if quiet or not sys.stderr.isatty():
        yield lambda name, done, total, detail: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def show(name: str, done: int, total: int, detail: str) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total, detail=detail)
            bar.update(tasks[name], completed=done, total=total, detail=detail)

        yield show
