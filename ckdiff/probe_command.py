"""What `ckdiff probe` does around the probe itself: options become values, Ctrl-C a clean stop, progress a bar.

Part of the door: `cli.py` parses and presents, this module calls. It prints through what it is given.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from ckdiff.errors import CkdiffError, ExitStatus, is_out_of_memory
from ckdiff.locks import alone
from ckdiff.probes.modes import DIRECTIONS, MODES, VARIANTS
from ckdiff.terminal import drops_verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ckdiff.api import ProbeSpec
    from ckdiff.probes.jobs import Outline
    from ckdiff.probes.modes import Direction
    from ckdiff.probes.probing import Listener
    from ckdiff.report.schema import Report

Remark = Any
"""`cli.remark`: (text, quiet) -> one line on stderr."""
ALL = "all"
NO_DISK = ("No space left on device", "PytorchStreamWriter failed", "Disk quota exceeded")
"""How torch and safetensors say that a disk is full."""
STOPPABLE = {"layers": "layer", "neurons": "layer", "training": "step"}
"""Stages of long work that can stop cleanly, and after what."""


LESS = "--stream on, a smaller --batch-size, or fewer questions"
"""What makes a probe smaller."""


class OptionError(CkdiffError):
    """An option whose text means nothing."""


def names(text: str, known: Iterable[str]) -> tuple[str, ...]:
    """Comma-separated names, each once; `all` means every one that is known.

    >>> names("coeff, attn,coeff", MODES)
    ('coeff', 'attn')
    """
    if text.strip() == ALL:
        return tuple(known)
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def modes(text: str) -> tuple[str, ...]:
    """The value of `--mode`."""
    return names(text, MODES)


def variants(text: str) -> tuple[str, ...]:
    """The value of `--variant`."""
    return names(text, VARIANTS)


def directions(text: str) -> tuple[Direction, ...]:
    """The value of `--direction`."""
    found = names(ALL if text.strip() == "both" else text, DIRECTIONS)
    return found  # type: ignore[return-value]  # Settings.check refuses what is no direction


def layer_numbers(text: str) -> tuple[int, ...]:
    """The value of `--layers`, in order and each once.

    >>> layer_numbers("7,0-2")
    (0, 1, 2, 7)
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        if not all(end.strip().isascii() and end.strip().isdigit() and len(end) < 6 for end in ends):
            raise OptionError(f"--layers: {part.strip()!r} is neither a layer nor a range; write 0,5-9")
        low, high = int(ends[0]), int(ends[1])
        if low > high:
            raise OptionError(f"--layers: {part.strip()!r} runs backwards; write {high}-{low}")
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def unescaped(text: str) -> str:
    r"""A template from the command line, in which \n and \t stand for what they mean.

    >>> unescaped(r"Q: {q}\nA:")
    'Q: {q}\nA:'
    """
    return text.replace(r"\n", "\n").replace(r"\t", "\t")


def pair_and_report(
    base: str | None, unlearned: str | None, output: Path, overwrite: bool, command: str = "probe"
) -> tuple[Report | None, tuple[str, str]]:
    """The report that a command's results go into, or None, and the two checkpoints.

    Raises:
        CkdiffError: one checkpoint alone, no pair to be found, or a report of another pair.
    """
    from ckdiff.report.hdf5 import check_writable, read_report

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


def run(spec: ProbeSpec, existing: Report | None, output: Path, resume: bool, quiet: bool, remark: Remark) -> Report:
    """Probe, and write the report; what another command has written into it meanwhile stays there.

    Raises:
        KeyboardInterrupt: Ctrl-C; the report is as it was.
    """
    from ckdiff.api import comparable, merged, probe
    from ckdiff.probes import partial
    from ckdiff.probes.probing import Stopped
    from ckdiff.report.hdf5 import read_report, write_report

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


def verdict(report: Report, remark: Remark) -> ExitStatus:
    """The exit status of a probe: scores that rest on nothing are inconclusive."""
    from ckdiff.report.probe_text import inconclusive

    reason = inconclusive(report.probe) if report.probe is not None else "nothing was measured"
    if reason:
        remark(f"ckdiff: inconclusive: {reason}", False)
        return ExitStatus.INCONCLUSIVE
    return ExitStatus.OK


def outline_text(found: Outline) -> str:
    """What `--plan` prints."""
    windows = len(found.windows)
    lines = [
        ("model", f"{found.model_type}, {found.layers} layers"),
        ("questions", f"{found.questions}, {found.positions} positions of which {found.scored} are scored"),
        ("runs", f"{found.runs} (controls included), {windows} windows"),
        (
            "work",
            f"{found.operations / 1e12:.3g} TFLOP, {found.operations / found.plain:.2f} of one full forward a run",
        ),
        ("memory", f"about {found.memory / 1e9:.3g} GB of {found.free / 1e9:.3g} GB free"),
        ("streaming", "one layer at a time" if found.stream else "no, both models stay in memory"),
        ("passes", str(found.passes)),
        ("reads", f"{found.bytes_read / 1e9:.3g} GB from the checkpoints"),
        ("time", f"about {duration(found.seconds)}, loading aside"),
    ]
    return "".join(f"{name:<11}{text}\n" for name, text in lines)


def duration(seconds: float) -> str:
    """A rough time: `20 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextlib.contextmanager
def listening(quiet: bool, remark: Remark) -> Iterator[Listener]:
    """Progress on a terminal, and Ctrl-C: in long work the first one stops cleanly, a second one at once."""
    from ckdiff.probes.probing import Listener

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
