"""A command at work: progress, a clean stop, one writer at a time, one line for memory and disk.

session = Session(output)
existing, pair = session.open_pair(stored, "probe")
with session.keep(resume) as place:
    report = session.work(lambda listener: probe(spec, listener, existing, place, resume))
    report = session.write(report, "probe")
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ckdiff.cli.console import bars, remark, watched
from ckdiff.cli.course import Course
from ckdiff.errors import CkdiffError, ReportError, is_out_of_memory
from ckdiff.locks import alone
from ckdiff.options import UNCHATTED, OptionError, assemble
from ckdiff.progress import nothing_to_resume
from ckdiff.report.words.sections import SECTIONS

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.calls.specs import Pair
    from ckdiff.cli.options import Output
    from ckdiff.cli.stored import StoredPair
    from ckdiff.progress import Listener
    from ckdiff.report.schema.report import Report

T = TypeVar("T")


NO_DISK = ("No space left on device", "PytorchStreamWriter failed", "unexpected pos", "Disk quota exceeded")
"""How torch and safetensors say that a disk is full."""


STOPPABLE = {"layers": "layer", "neurons": "layer", "training": "step"}
"""Stages of long work that can stop cleanly, and after what."""


KEPT = "what is done is kept; the same command with --resume goes on"
KEPT_MENDED = "what is done is kept; the mended command with --resume goes on with what is still right"


NOTHING_KEPT = "nothing was kept: start the same command again; a report that was there is as it was"


LESS = "--stream on, a smaller --batch-size, or fewer questions"
"""What makes a probe smaller."""


@dataclass(slots=True)
class Session:
    """A command at work on the report at --output.

    Attributes:
        output: where it is, whether it may be replaced, how much is said.
        there: what was in that place when the command began.
    """

    output: Output
    there: tuple[int, int] | None = field(init=False)

    def __post_init__(self) -> None:
        from ckdiff.report.hdf5.place import check_writable

        check_writable(self.output.output)
        self.there = identity(self.output.output)

    def say(self, text: str) -> None:
        """One line on stderr, unless --quiet."""
        remark(text, self.output.quiet)

    def say_unchatted(self, notes: Collection[str]) -> None:
        """Say of a plan, before hours of work, that a chat template is not used; nothing where its notes do not."""
        if UNCHATTED in notes:
            self.say(UNCHATTED)

    def open_pair(self, pair: StoredPair, command: str) -> tuple[Report | None, Pair]:
        """The report that results go into, or None, and the two checkpoints.

        Raises:
            CkdiffError: one checkpoint alone, no pair to be found, or something that is no report.
        """
        from ckdiff.calls.specs import Pair
        from ckdiff.report.hdf5.file import read_report

        if (pair.base is None) != (pair.unlearned is None):
            raise OptionError(f"{command}: give BASE and UNLEARNED, or neither to take the pair of the report")
        if pair.base is not None and pair.unlearned is not None:
            return self.read_existing(), assemble(Pair, pair)
        if not self.output.output.exists():
            missing = "there is no such report to take the pair of; give BASE and UNLEARNED"
            raise OptionError(f"{self.output.output}: {missing}")
        existing = read_report(self.output.output)
        sides = existing.provenance.base, existing.provenance.unlearned
        base, unlearned = (side.location + (f"@{side.revision}" if side.revision else "") for side in sides)
        return existing, assemble(Pair, pair, base=base, unlearned=unlearned)

    def read_existing(self) -> Report | None:
        """The report that is there already, or None where there is none, or where it is to be replaced.

        Raises:
            ReportError: something else is there.
        """
        from ckdiff.report.hdf5.file import read_report

        if self.output.overwrite or not self.output.output.exists():
            return None
        try:
            return read_report(self.output.output)
        except ReportError as error:
            raise ReportError(f"{error}; or replace it with --overwrite") from error

    def accept(self, base: str, unlearned: str) -> None:
        """Refuse, before the work begins, to replace another pair's report unasked."""
        if not self.output.overwrite and self.output.output.exists():
            from ckdiff.report.hdf5.file import check_same_pair

            check_same_pair(self.output.output, base, unlearned)

    def work(self, call: Callable[[Listener], T]) -> T:
        """Do long work, with progress and a clean stop.

        Raises:
            KeyboardInterrupt: Ctrl-C; the report is as it was.
        """
        return work(call, self.output.quiet)

    @contextlib.contextmanager
    def keep(self, resume: bool, section: str = "probe") -> Iterator[Path]:
        """Where unfinished work on this report, or on one section of it, is kept until all is written."""
        from ckdiff.calls.unfinished import forget, is_kept
        from ckdiff.probes import kept_sweep

        place = kept_sweep.place(self.output.output, section)
        kept = place.exists() or is_kept(place)
        if resume and not kept:
            self.say(nothing_to_resume(place))
        if kept and not resume:
            work = f"an interrupted {section}" if place.exists() else "interrupted work"
            found = f"{work} is there and will be discarded; stop, and use --resume to go on with it"
            self.say(f"{place}: {found}")
        try:
            yield place
        except KeyboardInterrupt as stop:
            kept = place.exists() or is_kept(place)
            if not (kept and KEPT in stop.args):  # else it is said already
                self.say(KEPT if kept else NOTHING_KEPT)
            raise
        except CkdiffError:
            if is_kept(place):
                self.say(KEPT_MENDED)
            raise
        kept_sweep.remove(place)
        forget(place)

    def write(self, report: Report, section: str) -> Report:
        """Write one section, into whatever report of the pair is there now: another command may have written meanwhile.

        Raises:
            ReportError: what is there is about other weights.
        """
        from ckdiff.calls.merge import merge_reports, replaced_parts
        from ckdiff.report.hdf5.file import read_report, write_report

        path = self.output.output
        with only_writer(path):
            replaces = self.output.overwrite and identity(path) == self.there
            older = read_report(path) if path.exists() and not replaces else None
            others: dict[str, Any] = {name: None for name in SECTIONS if name != section}
            fresh = replace(report, **others)
            for part in replaced_parts(older, fresh):
                self.say(f"{path}: {part}")
            report = merge_reports(older, fresh)
            write_report(report, path)
        return report

    def replace(self, report: Report) -> None:
        """Write a report that takes the place of an older one of the same pair.

        Raises:
            ReportError: another pair's has been written there meanwhile.
        """
        from ckdiff.report.hdf5.file import write_report

        path = self.output.output
        with only_writer(path):
            if identity(path) != self.there:
                self.say(f"{path}: was written by another command meanwhile, and is replaced")
                self.accept(report.provenance.base.location, report.provenance.unlearned.location)
            write_report(report, path)


def only_writer(output: Path) -> contextlib.AbstractContextManager[None]:
    """Nobody else reads, merges and replaces a report in this place meanwhile."""
    return alone(output.absolute().parent)


def identity(path: Path) -> tuple[int, int] | None:
    """The inode and the time of a file, which change when it is replaced; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def set_threads(count: int) -> None:
    """Threads of torch; the door has told BLAS libraries to use one, for the sake of NumPy's small blocks."""
    import torch

    if count == 0:
        given = os.environ.get("OMP_NUM_THREADS", "")
        there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        count = int(given) if given.isdigit() and int(given) else there
    torch.set_num_threads(count)


def work(call: Callable[[Listener], T], quiet: bool, less: str = LESS) -> T:
    """Do long work, with progress on a terminal and a clean stop; `less` is what to try where memory ran out.

    Raises:
        KeyboardInterrupt: Ctrl-C; what can be gone on with is kept.
    """
    from ckdiff.progress import Stopped

    try:
        with enough_disk(), enough_memory(less), listen(quiet) as listener:
            return call(listener)
    except Stopped:
        remark(KEPT, quiet)
        raise KeyboardInterrupt(KEPT) from None


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


@contextlib.contextmanager
def catch_stop(words: Callable[[], str], quiet: bool) -> Iterator[Callable[[], bool]]:
    """Whether somebody asked to stop: the first Ctrl-C or SIGTERM only says `words`, the next one interrupts.

    Where `words` are empty there is nothing to stop cleanly, and the first one interrupts.
    """
    asked: list[int] = []

    def interrupt(number: int, frame: Any) -> None:
        said = words()
        if asked or not said:
            raise KeyboardInterrupt
        asked.append(number)
        remark(said, quiet)

    # A batch scheduler says SIGTERM, and gives some seconds before it kills.
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def listen(quiet: bool) -> Iterator[Listener]:
    """A listener for long work: it shows progress on a terminal, and knows whether Ctrl-C was pressed."""
    from ckdiff.progress import Listener

    stage, within, course = [""], [""], Course()

    def words() -> str:
        return f"stopping after this {STOPPABLE[stage[0]]}; Ctrl-C again stops at once" if stage[0] in STOPPABLE else ""

    def expect(seconds: Callable[[], Mapping[str, float]]) -> None:
        # A few moments of measuring, for a terminal alone; what cannot be said beforehand is no reason to stop.
        if watched(quiet):
            with contextlib.suppress(CkdiffError):
                course.expected = dict(seconds())

    with bars(quiet, course) as show, catch_stop(words, quiet) as stop:

        def progress(name: str, done: int, total: int, detail: str) -> None:
            stage[0] = name if done < total else ""
            show(f"{within[0]}{name}", done, total, detail)

        def part(name: str, number: int, total: int) -> None:
            within[0] = f"{number}/{total} {name}: "
            course.begin(name)

        yield Listener(progress, stop, lambda text: remark(text, quiet), part=part, expect=expect)
